#include "capture/level10/metadata.h"

#include <cmath>

#include <gtest/gtest.h>

namespace cw::level10 {
namespace {

// Calls `read` with a text that has readable bytes behind it.
template <typename Read>
auto padded(std::string text, Read read) {
  const std::size_t size = text.size();
  text.resize(size + 64);
  return read(std::string_view(text).substr(0, size));
}

Result<Record> parse(std::string line) {
  return padded(std::move(line), parse_record);
}

Result<Record> parse_last(std::string content) {
  return padded(std::move(content), parse_last_record);
}

std::string record(const std::string& inputs, const std::string& rest = "") {
  return R"j({"function_name": "f", "module": "flashinfer.m", "process_id": 7, "input_metadata": {)j" +
         inputs +
         R"j(}, "function_signature": "(a)", "versions": {"flashinfer": "0.6.15"}, "execution_status": "completed", "graph_capture": false)j" +
         rest + "}";
}

// As FlashInfer writes it.
std::string record_of_call(const std::string& number, const std::string& time,
                           const std::string& folder, const std::string& rest = "1e-05") {
  return R"j({"function_name": "rmsnorm", "module": "flashinfer.norm", "call_sequence": )j" +
         number + R"j(, "timestamp": ")j" + time +
         R"j(", "process_id": 7, "input_metadata": {"arg_2": )j" + rest +
         R"j(}, "tensor_details": {"arg_0": {"shape": [2, 4], "dtype": "torch.bfloat16"}}, "function_signature": "(a)", "execution_status": "completed", "graph_capture": false, "dump_dir": ")j" +
         folder + R"j("})j";
}

class Reader {
 public:
  Result<std::shared_ptr<const Record>> operator()(std::string content) {
    return padded(std::move(content),
                  [this](std::string_view text) { return reader_.last_record(text, 3); });
  }

 private:
  RecordReader reader_;
};

TEST(Metadata, RecordsThatRepeatAreParsedOnce) {
  Reader read;
  const auto first = read(record_of_call("7", "20261122_100000_000", "/d/a_call0007"));
  ASSERT_TRUE(first) << first.error().message;
  EXPECT_EQ((*first)->function, "rmsnorm");
  EXPECT_EQ(*read(record_of_call("1234", "20261122_100001_999", "/elsewhere/call1234")), *first);
  EXPECT_EQ(*read(record_of_call("7", "", "") + "\n\n"), *first);

  // What differs in anything else is another one, and what is not valid is not hidden.
  const auto other = read(record_of_call("8", "20261122_100000_000", "/d", "2e-05"));
  ASSERT_TRUE(other);
  EXPECT_NE(**other, **first);
  EXPECT_FALSE(read(record_of_call("8", "20261122_100000_000", "/d\xff", "2e-05")));

  // A record before half a line is that call's.
  const std::string line = record_of_call("9", "20261122_100000_000", "/d", "3e-05");
  const auto half = read(line + "\n" + line.substr(0, 300));
  ASSERT_TRUE(half);
  EXPECT_EQ(std::get<double>((*half)->inputs.at(0).second.data), 3e-05);
}

// Whatever is changed in a line, or left out of it: what was read before does not show.
TEST(Metadata, RecordsAreReadAsOnTheirOwn) {
  constexpr std::string_view changes = "\"\\{}[],: 0_a\xff\n";
  Reader read;
  const std::string line = record_of_call("17", "20261122_100000_000", "/d/rmsnorm_call0017");
  for (std::size_t i = 0; i < line.size(); ++i)
    for (std::size_t c = 0; c < changes.size() + 30; ++c) {
      std::string changed = line;
      if (c < changes.size())
        changed[i] = changes[c];
      else
        changed.erase(i, c - changes.size());
      ASSERT_TRUE(read(line));
      const auto once = parse_last(changed);
      const auto again = read(changed);
      ASSERT_EQ(once.has_value(), again.has_value()) << changed;
      if (once) {
        EXPECT_EQ(*once, **again) << changed;
      }
    }
}

TEST(Metadata, ValuesOfEveryKind) {
  const auto parsed = parse(record(
      R"j("arg_0": 1, "arg_1": -0.5, "arg_2": null, "arg_3": true, "arg_4": "NHD", "arg_5": {"type": "torch.dtype", "value": "torch.bfloat16"}, )j"
      R"j("arg_6": {"type": "enum", "name": "E.a", "value": 2}, "arg_7": {"type": "tuple", "length": 2, "items": [{"type": "torch.Tensor", "shape": [1], "tensor_key": "arg_7__0"}, 3], "truncated": false}, )j"
      R"j("arg_8": {"type": "MLAPlanMetadata", "repr": "MLAPlanMetadata(x=1)"}, "arg_9": {"type": "dict", "length": 1, "items": [{"key": "a", "value": 1}], "truncated": false})j"));
  ASSERT_TRUE(parsed) << parsed.error().message;
  const auto& in = parsed->inputs;
  ASSERT_EQ(in.size(), 10u);
  EXPECT_EQ(std::get<std::int64_t>(in[0].second.data), 1);
  EXPECT_EQ(std::get<double>(in[1].second.data), -0.5);
  EXPECT_TRUE(std::holds_alternative<std::monostate>(in[2].second.data));
  EXPECT_EQ(std::get<bool>(in[3].second.data), true);
  EXPECT_EQ(std::get<std::string>(in[4].second.data), "NHD");
  EXPECT_EQ(std::get<RecordedOpaque>(in[5].second.data).text, "torch.bfloat16");
  EXPECT_EQ(std::get<RecordedEnum>(in[6].second.data).value, 2);
  const auto& items = std::get<RecordedSequence>(in[7].second.data).items;
  EXPECT_EQ(std::get<TensorKey>(items[0].data).key, "arg_7__0");
  EXPECT_EQ(std::get<RecordedOpaque>(in[8].second.data).type, "MLAPlanMetadata");
  EXPECT_EQ(std::get<RecordedOpaque>(in[9].second.data).type, "dict");
}

// Python writes a path that is not UTF-8 with lone surrogates.
TEST(Metadata, APathThatIsNotUtf8) {
  const auto parsed = parse(record(R"j("arg_0": 4)j", R"j(, "dump_dir": "/tmp/\udcff/d")j"));
  ASSERT_TRUE(parsed) << parsed.error().message;
  EXPECT_EQ(std::get<std::int64_t>(parsed->inputs[0].second.data), 4);
}

TEST(Metadata, PythonsJson) {
  const auto parsed = parse(record(
      R"j("arg_0": NaN, "arg_1": Infinity, "arg_2": -Infinity, "arg_3": 36893488147419103232, "arg_4": 1)j" +
      std::string(400, '0')));
  ASSERT_TRUE(parsed) << parsed.error().message;
  const auto number = [&](std::size_t i) {
    return std::get<double>(parsed->inputs[i].second.data);
  };
  EXPECT_TRUE(std::isnan(number(0)));
  EXPECT_TRUE(std::isinf(number(1)));
  EXPECT_LT(number(2), 0);
  EXPECT_EQ(number(3), 36893488147419103232.0);
  EXPECT_TRUE(std::isinf(number(4)));
}

TEST(Metadata, MalformedRecords) {
  for (const std::string& line :
       {std::string(), std::string("{}"), std::string("[1]"), record(R"j("arg_0": nope)j"),
        record(R"j("arg_0": )j"), record(R"j("arg_0": 1)j", R"j(, "self_id": "x")j"),
        record("") + "x", std::string("{\"function_name\": \"\xff\"}"),
        record(R"j("arg_0": )j" + std::string(100, '[') + std::string(100, ']'))})
    EXPECT_EQ(parse(line).error().code, "metadata_malformed") << line;
}

TEST(Metadata, TheLastWholeRecordCounts) {
  const std::string saved = R"j({"function_name": "f", "execution_status": "inputs_saved"})j";
  const std::string done = R"j({"function_name": "f", "execution_status": "completed"})j";
  EXPECT_EQ(parse_last(saved + "\n" + done + "\n")->status, "completed");
  EXPECT_EQ(parse_last(saved + "\n" + done.substr(0, 30))->status, "inputs_saved");
  EXPECT_EQ(parse_last(done)->status, "completed");
  EXPECT_EQ(parse_last("").error().code, "metadata_malformed");
  EXPECT_EQ(parse_last("\n\n").error().code, "metadata_malformed");
}

}  // namespace
}  // namespace cw::level10
