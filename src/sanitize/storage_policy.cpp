#include "sanitize/storage_policy.h"

#include <algorithm>

namespace cw {
namespace {

// The pages of a pool that a workload's cache tensors keep: the first `count`, or those listed.
struct KeptPages {
  std::size_t axis;
  std::int64_t count = 0;
  std::vector<std::int64_t> listed;  ///< ascending; empty: the first `count`
};

std::shared_ptr<const DenseTensor> renumber(const DenseTensor& indices,
                                            const std::vector<std::int64_t>& pages,
                                            std::int64_t per_page) {
  std::vector<std::int64_t> values = integers(indices);
  for (std::int64_t& value : values) {
    if (value < 0) continue;  // padding
    const auto place = std::ranges::lower_bound(pages, value / per_page) - pages.begin();
    value = place * per_page + value % per_page;
  }
  return std::make_shared<const DenseTensor>(from_integers(indices.dtype, indices.shape, values));
}

// A cache tensor with only the kept pages.
std::shared_ptr<const DenseTensor> keep_pages(const DenseTensor& tensor, const KeptPages& pages) {
  const std::size_t page_bytes =
      tensor.shape[0] == 0 ? 0 : tensor.bytes.size() / static_cast<std::size_t>(tensor.shape[0]);
  DenseTensor kept{tensor.dtype, tensor.shape, {}};
  kept.shape[0] = pages.count;
  if (pages.listed.empty())
    kept.bytes = tensor.bytes.substr(0, page_bytes * static_cast<std::size_t>(pages.count));
  for (const std::int64_t page : pages.listed)
    kept.bytes.append(tensor.bytes, static_cast<std::size_t>(page) * page_bytes, page_bytes);
  return std::make_shared<const DenseTensor>(std::move(kept));
}

class WorkloadBuilder {
 public:
  WorkloadBuilder(const Observation& observation, const StoragePolicy& policy)
      : observation_(observation), definition_(*observation.target->definition), policy_(policy) {
    workload_.definition = &definition_;
    workload_.axes = observation.axes;
  }

  Result<Workload> make() {
    for (const ObservedInput& input : observation_.inputs) structural_.push_back(input.values);
    if (policy_.num_pages != NumPages::pool)
      for (const PoolAxis& pool : observation_.provider->binding->pools) CW_CHECK(shrink(pool));
    for (std::size_t i = 0; i < definition_.inputs.size(); ++i) {
      CW_TRY(WorkloadInput input, this->input(i));
      workload_.inputs.push_back(std::move(input));
    }
    return std::move(workload_);
  }

 private:
  std::optional<std::size_t> axis_index(std::string_view name) const {
    for (std::size_t i = 0; i < definition_.axes.size(); ++i)
      if (definition_.axes[i].name == name) return i;
    return std::nullopt;
  }

  Result<void> shrink(const PoolAxis& pool) {
    const auto axis = axis_index(pool.axis);
    const TensorSpec* user = definition_.input(pool.used_by);
    if (!axis || definition_.axes[*axis].constant || user == nullptr) return {};
    auto& indices = structural_[static_cast<std::size_t>(user - definition_.inputs.data())];
    if (!indices) return {};

    std::int64_t per_page = 1;
    if (pool.entries_per_page) {
      const auto constant = axis_index(pool.entries_per_page->text());
      if (constant) per_page = std::max<std::int64_t>(1, workload_.axes[*constant]);
    }

    // Either up to the highest page used, or only the pages in use, renumbered.
    KeptPages kept{.axis = *axis, .listed = {}};
    if (policy_.num_pages == NumPages::used) {
      const auto range = integer_range(*indices);  // negative entries are padding
      kept.count = range ? std::max<std::int64_t>(range->second, 0) / per_page + 1 : 1;
    } else {
      std::vector<std::int64_t> pages = integers(*indices);
      std::erase_if(pages, [](std::int64_t index) { return index < 0; });
      for (std::int64_t& page : pages) page /= per_page;
      std::ranges::sort(pages);
      pages.erase(std::unique(pages.begin(), pages.end()), pages.end());
      if (pages.empty()) pages.push_back(0);
      kept.count = static_cast<std::int64_t>(pages.size());
      indices = renumber(*indices, pages, per_page);
      kept.listed = std::move(pages);
    }

    workload_.axes[*axis] = kept.count;
    kept_.push_back(std::move(kept));
    return {};
  }

  Result<WorkloadInput> input(std::size_t index) const {
    const ObservedInput& observed = observation_.inputs[index];
    const TensorSpec& spec = definition_.inputs[index];
    if (const auto* scalar = std::get_if<Operand>(&observed.data)) return WorkloadInput(*scalar);
    const auto* view = std::get_if<InputView>(&observed.data);
    if (view == nullptr)
      return WorkloadInput(RandomInput{});  // optional, and accepted by the binder
    if (structural_[index]) return WorkloadInput(structural_[index]);
    if (!keeps(spec, *view)) return WorkloadInput(RandomInput{});
    CW_TRY(std::shared_ptr<const DenseTensor> values, view->load());
    auto converted = cast(*values, spec.dtype);
    if (!converted)
      return fail("dtype", "input {}: {} is not stored as {}", spec.name, trace_name(values->dtype),
                  trace_name(spec.dtype));
    values = std::make_shared<const DenseTensor>(std::move(*converted));
    for (const KeptPages& pages : kept_)
      if (!spec.axes.empty() && spec.axes[0] == pages.axis) values = keep_pages(*values, pages);
    return WorkloadInput(std::move(values));
  }

  // Integers are never random: they may point at something. And flashinfer-bench cannot generate
  // random float4.
  bool keeps(const TensorSpec& spec, const InputView& view) const {
    if (is_integer(spec.dtype) || spec.dtype == DType::boolean || spec.dtype == DType::float4_e2m1)
      return true;
    if (std::ranges::find(policy_.keep_values, spec.name) != policy_.keep_values.end()) return true;
    if (!policy_.random_below) return false;
    const auto size = byte_count(view.dtype, element_count(view.shape).value_or(0));
    return size && *size >= *policy_.random_below;
  }

  const Observation& observation_;
  const Definition& definition_;
  const StoragePolicy& policy_;
  Workload workload_;
  std::vector<std::shared_ptr<const DenseTensor>> structural_;
  std::vector<KeptPages> kept_;
};

}  // namespace

std::vector<std::int64_t> known_axes(const Observation& observation, const StoragePolicy& policy) {
  std::vector<std::int64_t> axes = observation.axes;
  const std::vector<Axis>& specs = observation.target->definition->axes;
  for (const PoolAxis& pool : observation.provider->binding->pools)
    for (std::size_t i = 0; i < specs.size(); ++i)
      if (specs[i].name == pool.axis && !specs[i].constant && policy.num_pages != NumPages::pool)
        axes[i] = unknown_extent;
  return axes;
}

Result<Workload> build_workload(const Observation& observation, const StoragePolicy& policy) {
  return WorkloadBuilder(observation, policy).make();
}

}  // namespace cw
