#include "definition/expression.h"

namespace {

// Every name is there, as a different kind of value.
class AnyName : public cw::NameResolver {
 public:
  cw::Result<cw::Operand> value_of(std::string_view name) const override {
    switch (name.size() % 5) {
      case 0:
        return cw::Operand();
      case 1:
        return cw::Operand(static_cast<std::int64_t>(name[0]) * 1'000'000'007);
      case 2:
        return cw::Operand(std::string(name));
      case 3:
        return cw::Operand(-1.5);
      default:
        return cw::Operand(
            cw::TensorOperand{cw::DType::int32, {2}, [] {
                                return cw::Result<std::shared_ptr<const cw::DenseTensor>>(
                                    std::make_shared<const cw::DenseTensor>(cw::from_integers(
                                        cw::DType::int32, {2}, std::vector<std::int64_t>{-7, 7})));
                              }});
    }
  }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const char* data, std::size_t size) {
  if (const auto expression = cw::Expression::parse({data, size}))
    (void)expression->evaluate(AnyName());
  return 0;
}
