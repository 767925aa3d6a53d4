#include "capture/level10/pickle.h"

#include <gtest/gtest.h>

namespace cw::level10 {
namespace {

using namespace std::string_literals;

// {"x": tensor of int32 [3]} as torch 2 pickles it.
std::string tensor_pickle(const std::string& offset = "K\x00"s,
                          const std::string& shape = "K\x03\x85"s,
                          const std::string& stride = "K\x01\x85"s) {
  return "\x80\x02}q\x00"s + "X\x01\x00\x00\x00"s + "xq\x01"s +
         "ctorch._utils\n_rebuild_tensor_v2\n"s + "((X\x07\x00\x00\x00"s + "storage"s +
         "ctorch\nIntStorage\n"s + "X\x01\x00\x00\x00"s + "0"s + "X\x03\x00\x00\x00"s + "cpu"s +
         "K\x03tQ"s + offset + shape + stride + "\x89"s + "ccollections\nOrderedDict\n)RtRs."s;
}

TEST(Pickle, ATensor) {
  const auto tensors = parse_pickled_tensors(tensor_pickle());
  ASSERT_TRUE(tensors) << tensors.error().message;
  ASSERT_EQ(tensors->size(), 1u);
  EXPECT_EQ((*tensors)[0].name, "x");
  EXPECT_EQ((*tensors)[0].dtype, DType::int32);
  EXPECT_EQ((*tensors)[0].shape, Shape{3});
  EXPECT_EQ((*tensors)[0].storage, "0");
}

TEST(Pickle, TensorsThatAreNone) {
  EXPECT_FALSE(parse_pickled_tensors(tensor_pickle("J\xff\xff\xff\xff"s)));  // offset -1
  EXPECT_FALSE(
      parse_pickled_tensors(tensor_pickle("K\x00"s, "J\xff\xff\xff\xff\x85"s)));  // extent -1
  EXPECT_FALSE(
      parse_pickled_tensors(tensor_pickle("K\x00"s, "K\x03K\x03\x86"s)));  // more axes than strides
  EXPECT_FALSE(parse_pickled_tensors(tensor_pickle("\x88"s)));             // True for an offset
}

TEST(Pickle, NothingIsExecuted) {
  const std::string bad[] = {
      "\x80\x02"s + "cos\nsystem\nX\x02\x00\x00\x00idtR."s,  // os.system("id")
      "\x80\x02"s + "cbuiltins\neval\n(X\x01\x00\x00\x00"s + "1tR."s,
      "\x80\x02"s + "c__builtin__\ngetattr\n."s,
      "\x80\x02"s + "ctorch\nload\n."s,
      "\x80\x02"s + "ctorch._utils\n_rebuild_tensor_v2\nN\x81."s,  // NEWOBJ
      "\x80\x02"s + "}b."s,                                        // BUILD
      "\x80\x02"s + "(ios\nsystem\n."s,                            // INST
      "\x80\x04\x8c\x02os\x8c\x06system\x93."s,                    // STACK_GLOBAL
      "\x80\x02\x82\x01."s,                                        // EXT1
  };
  for (const std::string& program : bad)
    EXPECT_EQ(parse_pickled_tensors(program).error().code, "pickle_refused") << program;
}

TEST(Pickle, DamagedPrograms) {
  for (const std::string& program :
       {""s, "\x80"s, "\x80\x02"s, "."s, "\x80\x02}"s, "\x80\x02s."s, "\x80\x02t."s,
        "\x80\x02h\x05."s, "\x80\x02X\xff\xff\xff\xffx."s, "\x80\x07}."s, "\x80\x02N."s,
        "\x80\x02}(K\x01u."s})
    EXPECT_EQ(parse_pickled_tensors(program).error().code, "pickle_malformed") << program;
  std::string deep = "\x80\x02)"s;
  for (int i = 0; i < 100'000; ++i) deep += '\x85';
  EXPECT_EQ(parse_pickled_tensors(deep + ".").error().code, "pickle_malformed");
}

TEST(Pickle, AnEmptyDict) {
  EXPECT_TRUE(parse_pickled_tensors("\x80\x02}q\x00."s)->empty());
}

}  // namespace
}  // namespace cw::level10
