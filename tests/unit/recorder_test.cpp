// The recorder's core and the reader of its files, together: what an engine calls is what a Capture
// gives back.
#include <algorithm>
#include <fstream>

#include <tbb/global_control.h>
#include <unistd.h>

#include "bind/needs.h"
#include "capture/recorder/bundle.h"
#include "recording/frame.h"
#include "support/recorded_engine.h"

namespace cw::testing {
namespace {

using recording::Frame;
using recording::RecordingCapture;
using Indices = RecordedEngine::Indices;
constexpr const char* decode = "gqa_paged_decode_h32_kv8_d128_ps1";

#ifdef CW_SANITIZES_THREADS
// The distribution's oneTBB is not instrumented: what reads recordings stays in the calling thread.
const tbb::global_control in_one_thread(tbb::global_control::max_allowed_parallelism, 1);
#endif

class RecorderTest : public DatasetTest {
 protected:
  static std::unique_ptr<RecordingCapture> read(const std::filesystem::path& path) {
    auto capture = RecordingCapture::open({path}).value();
    while (capture->fetch()) {
    }
    return capture;
  }
  std::unique_ptr<RecordingCapture> read() { return read(dumps()); }

  SanitizeOutcome sanitize_recording() {
    datasets_.push_back(std::make_unique<Dataset>(Dataset::open(trace()).value()));
    const auto capture = read();
    return sanitize(*capture, *datasets_.back(), bindings_, {.selection = Selection::all}).value();
  }

  static std::uint32_t add_plain_function(recorder::Recorder& recorder, const char* signature,
                                          const std::vector<std::string>& names) {
    return recorder.add_function({{"function", "f"},
                                  {"module", "m"},
                                  {"signature", signature},
                                  {"role", "function"},
                                  {"names", names}});
  }

  // "count function" of every entry, in order.
  std::vector<std::string> listing(const RecordingCapture& capture) {
    std::vector<std::string> lines;
    for (std::size_t i = 0; i < capture.size(); ++i) {
      const std::string& function = capture.function(i);
      lines.push_back(
          fmt::format("{} {}", capture.sighting(i).count, function.substr(function.find('.') + 1)));
    }
    return lines;
  }

  // Those that gave workloads.
  static std::uint64_t calls(const SanitizeOutcome& outcome) {
    for (const DefinitionOutcome& definition : outcome.definitions) {
      if (definition.definition->name != decode) continue;
      std::uint64_t calls = definition.calls;
      for (const auto& [reason, count] : definition.unseen) calls -= count;
      return calls;
    }
    return 0;
  }

  std::string file() const { return (dumps() / "engine.cbor").string(); }
};

// Engines hand over whole buffers, of which a part counts: without its bound, 42 MB are to be
// copied at each step.
TEST(RecorderConfig, IndexTensorsAreBoundedByTheirIndptr) {
  const auto bindings = BindingSet::parse(std::string(built_in_bindings()));
  const auto config = recording::recorder_config(needs_of(*bindings),
                                                 std::string(recording::built_in_recorder_rules()));
  ASSERT_TRUE(config) << config.error().message;
  const Json& values = config->at("values");
  EXPECT_EQ(values.at("BatchDecodeWithPagedKVCacheWrapper.plan").at("indices"), Json({"indptr"}));
  EXPECT_EQ(values.at("BatchPrefillWithPagedKVCacheWrapper.plan").at("paged_kv_indices"),
            Json({"paged_kv_indptr"}));
  EXPECT_EQ(values.at("BatchMLAPagedAttentionWrapper.plan").at("kv_indices"), Json({"kv_indptr"}));
}

TEST(Frames, AreReadBack) {
  const std::string two = recording::make_frame("first") + recording::make_frame("");
  const Frame first = recording::read_frame(two);
  EXPECT_EQ(first.status, Frame::Status::whole);
  EXPECT_EQ(first.payload, "first");
  const Frame second = recording::read_frame(std::string_view(two).substr(first.size));
  EXPECT_EQ(second.status, Frame::Status::whole);
  EXPECT_EQ(second.payload, "");
  // What any CBOR tool sees.
  const auto item = nlohmann::json::from_cbor(two.substr(0, first.size), true, false,
                                              nlohmann::json::cbor_tag_handler_t::ignore);
  ASSERT_EQ(item.size(), 2u);
  EXPECT_EQ(item[0].get_binary().size(), 8u);
}

TEST(Frames, AnyCutIsCutOffAndAnyChangeIsSeen) {
  const std::string frame = recording::make_frame("some payload");
  for (std::size_t i = 0; i < frame.size(); ++i) {
    EXPECT_EQ(recording::read_frame(std::string_view(frame).substr(0, i)).status,
              Frame::Status::cut_off)
        << i;
    for (int bit = 0; bit < 8; ++bit) {
      std::string changed = frame;
      changed[i] = static_cast<char>(changed[i] ^ (1 << bit));
      EXPECT_NE(recording::read_frame(changed).status, Frame::Status::whole) << i;
    }
  }
}

TEST(Queues, GiveBackWhatWasPushedInOrderAndRefuseMoreThanTheirLimit) {
  recorder::Queue queue(1 << 20);
  std::vector<std::byte> item;
  std::size_t pushed = 0;
  for (;; ++pushed) {
    item.assign(pushed % 999, static_cast<std::byte>(pushed));
    if (!queue.push(item)) break;
  }
  EXPECT_GT(pushed, 2000u);
  EXPECT_LE(queue.pending(), std::size_t{1} << 20);
  for (std::size_t i = 0; i < pushed; ++i) {
    // An empty item looks as none does; those that wait tell.
    ASSERT_GT(queue.pending(), 0u);
    const auto front = queue.front();
    ASSERT_EQ(front.size(), i % 999);
    EXPECT_TRUE(std::all_of(front.begin(), front.end(),
                            [i](std::byte b) { return b == static_cast<std::byte>(i); }));
    queue.pop();
  }
  EXPECT_EQ(queue.pending(), 0u);
  EXPECT_FALSE(queue.push(std::vector<std::byte>(300'000))) << "larger than a chunk";
}

TEST(StagingMemory, IsGivenOutAgainOnlyWhenItsJobIsDoneAndReleased) {
  recorder::Staging staging(1024);
  std::byte* first = staging.reserve(600);
  ASSERT_NE(first, nullptr);
  const auto job = staging.commit(nullptr, nullptr);
  EXPECT_TRUE(staging.is_done(job));
  EXPECT_EQ(staging.reserve(600), nullptr) << "not released";
  staging.release(job);
  std::byte* again = staging.reserve(600);
  EXPECT_EQ(again, first) << "not across the end";
  EXPECT_EQ(staging.reserve(2000), nullptr);
  EXPECT_EQ(staging.reserve(0), nullptr);
}

TEST_F(RecorderTest, CallsThatDifferInNothingAreCounted) {
  {
    RecordedEngine engine(dumps());
    engine.plan(1, {5, 7});
    for (int layer = 0; layer < 32; ++layer) {
      engine.norm(2);
      engine.run(1, 2);
    }
    engine.plan(1, {6, 8}, 100);
    for (int layer = 0; layer < 32; ++layer) engine.run(1, 2);
  }
  const auto capture = read();
  EXPECT_EQ(listing(*capture),
            (std::vector<std::string>{"1 plan", "32 rmsnorm", "32 run", "1 plan", "32 run"}));
  EXPECT_EQ(capture->sighting(0).wrapper.process, 7);
  const Call run = capture->read(2).value();
  EXPECT_EQ(run.count, 32u);
  EXPECT_EQ(std::get<double>(run.given("self._sm_scale")->data), 0.0883);
  EXPECT_TRUE(capture->defects().empty());
  const SanitizeOutcome outcome = sanitize_recording();
  EXPECT_EQ(outcome.survey.calls, 98u);
  EXPECT_EQ(calls(outcome), 64u);
  const auto made = workloads(decode);
  ASSERT_EQ(made.size(), 2u);
  const auto& longer = made[0]["axes"]["num_kv_indices"] == 14 ? made[0] : made[1];
  EXPECT_EQ(stored(longer, "kv_indptr"), (std::vector<std::int64_t>{0, 6, 14}));
  EXPECT_EQ(stored(longer, "kv_indices").front(), 100) << "without what is unused of the buffer";
  EXPECT_EQ(longer["inputs"]["sm_scale"]["value"], 0.0883);
}

// Eager engines pass index tensors of just the length that is used: another shape at each step.
TEST_F(RecorderTest, CallsThatDifferInTheLengthsOfListsAreOneForm) {
  // Few batch sizes, and 600 lengths of the indices.
  constexpr int steps = 3000;
  std::map<Values, std::uint64_t> batches, indices;
  {
    RecordedEngine engine(dumps());
    for (int step = 0; step < steps; ++step) {
      Indices lengths(static_cast<std::size_t>(2 + step % 3), 5);
      lengths.back() += step % 200;
      const auto used = static_cast<std::int64_t>(5 * lengths.size()) + step % 200;
      engine.plan(1, lengths, step, false, 0, 0, static_cast<std::size_t>(used));
      engine.run(1, static_cast<std::int64_t>(lengths.size()));
      ++batches[{static_cast<std::int64_t>(lengths.size())}];
      ++indices[{used}];
    }
  }

  // What a call was passed is its own, whichever call its content comes from.
  const auto capture = read();
  std::set<Hash128> without_values;
  int calls_without_values = 0;
  for (std::size_t i = 0; i < capture->size(); ++i) {
    const Call call = capture->read(i).value();
    if (!call.content->function.ends_with(".plan")) continue;
    const Call own = capture->read_again(capture->place(i)).value();
    // Nothing is told of what could not be copied.
    if (call.told.size() == 3 && std::ranges::none_of(call.told, &ToldCount::has_values)) {
      without_values.insert(call.identity);
      ++calls_without_values;
    }
    for (const char* name : {"indptr", "indices", "last_page_len"})
      EXPECT_EQ(call.shape_of(*call.given(name)->tensor()),
                own.shape_of(*own.given(name)->tensor()));
  }
  EXPECT_EQ(without_values.size(), 1u);
  EXPECT_GT(calls_without_values, 100);

  // And every call counts where it belongs.
  const SanitizeOutcome outcome = sanitize_recording();
  for (const auto& [target, counts] : outcome.survey.definitions) {
    if (target->definition->name != decode) continue;
    EXPECT_EQ(counts.calls, static_cast<std::uint64_t>(steps));
    const auto of = [&counts = counts](const std::string& axis) {
      const auto& names = counts.distribution.var_axes;
      const auto place = std::ranges::find(names, axis) - names.begin();
      return counts.distribution.of_axes[static_cast<std::size_t>(place)].cells();
    };
    EXPECT_EQ(of("batch_size"), batches);
    EXPECT_EQ(of("num_kv_indices"), indices);
    std::map<Values, std::uint64_t> indptrs;
    for (const auto& [batch, calls] : batches) indptrs[{batch[0] + 1}] = calls;
    EXPECT_EQ(of("len_indptr"), indptrs);
  }
}

// So are the shapes that inspect lists.
TEST_F(RecorderTest, LengthsOfListsAreThoseOfAllCalls) {
  {
    RecordedEngine engine(dumps());
    for (int step = 0; step < 100; ++step)
      engine.plan(1, {5, 5 + step}, 0, false, 0, 0, static_cast<std::size_t>(10 + step));
  }
  const auto capture = RecordingCapture::open({dumps()}).value();
  const Binder binder({}, bindings_);
  const Survey seen = survey(*capture, bindings_, binder, {.reads_everything = true});
  const auto& shapes = seen.functions.at("BatchDecodeWithPagedKVCacheWrapper.plan").shapes;
  EXPECT_EQ(shapes.at("indices").min, Shape{10});
  EXPECT_EQ(shapes.at("indices").max, Shape{109});
  EXPECT_EQ(shapes.at("indptr").max, Shape{3});
}

// The windows are written while the layers of a step are under way: what is counted later still
// belongs to its own plan.
TEST_F(RecorderTest, RepeatsBelongToThePlanTheyWereMadeUnder) {
  {
    RecordedEngine engine(dumps());
    for (int step = 0; step < 4; ++step) {
      engine.plan(1, {step + 3});
      engine.run(1, 1);
      std::this_thread::sleep_for(std::chrono::milliseconds(400));
      for (int layer = 1; layer < 10; ++layer) engine.run(1, 1);
    }
  }
  const SanitizeOutcome outcome = sanitize_recording();
  EXPECT_EQ(calls(outcome), 40u);
  for (const DefinitionOutcome& definition : outcome.definitions)
    for (const KeptWorkload& workload : definition.kept) EXPECT_EQ(workload.seen, 10u);
}

// More kinds of calls at a time than are remembered: then they are told of again.
TEST_F(RecorderTest, ManyKindsOfCallsAreCountedAllTheSame) {
  {
    RecordedEngine engine(dumps());
    for (int round = 0; round < 3; ++round)
      for (int rows = 1; rows <= 3000; ++rows) engine.norm(rows);
  }
  const auto capture = read();
  std::uint64_t total = 0;
  for (std::size_t i = 0; i < capture->size(); ++i) total += capture->sighting(i).count;
  EXPECT_EQ(total, 9000u);
}

// What the caller knows to be the same call is counted without being described, until another plan,
// or until its counter went to another call.
TEST_F(RecorderTest, CallsKnownToBeTheSameAreCounted) {
  using Sent = recorder::Recorder::Sent;
  {
    RecordedEngine engine(dumps());
    auto& recorder = engine.recorder();
    const std::uint32_t hooked = add_plain_function(recorder, "(x)", {"x"});
    recorder::Recorder::CallBuilder call;
    const auto send = [&](std::uint64_t self, std::int64_t x) {
      recorder.begin_call(call, hooked, self, 0, 0);
      call.arguments().name(0);
      call.arguments().integer(x);
      return recorder.send(call);
    };
    const Sent sent = send(0, 1);
    EXPECT_FALSE(sent.is_repeat);
    ASSERT_NE(sent.repeats, nullptr);
    EXPECT_TRUE(send(0, 1).is_repeat);
    for (int i = 0; i < 3; ++i) EXPECT_TRUE(recorder.repeat(sent));

    // Another plan ends what a wrapper's calls are the same as, and no function's.
    const Sent of_wrapper = send(7, 2);
    EXPECT_TRUE(recorder.repeat(of_wrapper));
    engine.plan(8, {3});
    EXPECT_FALSE(recorder.repeat(of_wrapper));
    EXPECT_TRUE(recorder.repeat(sent));

    // So many others that no counter is left for it.
    for (std::int64_t other = 100; other < 5000; ++other) send(0, other);
    EXPECT_FALSE(recorder.repeat(sent));
    EXPECT_FALSE(send(0, 1).is_repeat);
  }
  std::map<std::int64_t, std::uint64_t> counts;
  const auto capture = read();
  for (std::size_t i = 0; i < capture->size(); ++i)
    if (capture->function(i) == "f")
      counts[std::get<std::int64_t>(capture->read(i).value().given("x")->data)] +=
          capture->sighting(i).count;
  EXPECT_EQ(counts[1], 7u);
  EXPECT_EQ(counts[2], 2u);
  EXPECT_EQ(counts[100], 1u);
}

TEST_F(RecorderTest, IndexTensorsComeFromTheDeviceWhileItTakesItsTime) {
  {
    RecordedEngine engine(dumps());
    const auto control = engine.use_slow_device();
    for (int step = 0; step < 20; ++step) {
      engine.plan(1, {step + 1, 3}, step, true);
      engine.run(1, 2);
    }
    while (control->copies < 60) std::this_thread::yield();
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
  }
  EXPECT_EQ(calls(sanitize_recording()), 20u);
  EXPECT_EQ(workloads(decode).size(), 20u);
}

TEST_F(RecorderTest, CopiesThatNeverComeAreLostAndNothingElse) {
  {
    RecordedEngine engine(dumps());
    engine.use_slow_device()->is_stuck = true;
    engine.plan(1, {4}, 0, true);
    engine.run(1, 1);
    engine.plan(2, {9});
    engine.run(2, 1);
  }
  const SanitizeOutcome outcome = sanitize_recording();
  EXPECT_EQ(outcome.survey.calls, 4u);
  EXPECT_EQ(calls(outcome), 1u);
  EXPECT_EQ(count(outcome, "values_lost"), 2u) << "the call's, and the defect that says how many";
}

TEST_F(RecorderTest, WithoutADeviceNothingIsCopied) {
  std::shared_ptr<SlowDevice::Control> control;
  {
    RecordedEngine engine(dumps());
    control = engine.use_slow_device();
    control->refuses = true;
    engine.plan(1, {4}, 0, true);
    engine.run(1, 1);
  }
  EXPECT_EQ(control->copies, 0);
  EXPECT_EQ(calls(sanitize_recording()), 0u);
}

TEST_F(RecorderTest, WhileAGraphIsCapturedNothingIsCopied) {
  RecordedEngine engine(dumps());
  const auto control = engine.use_slow_device();
  engine.recorder().begin_capture();
  engine.plan(1, {4}, 0, true);  // of another thread, say
  engine.recorder().end_capture();
  control->is_capturing = true;
  engine.plan(1, {4}, 0, true);
  EXPECT_EQ(control->copies, 0);
  control->is_capturing = false;
  engine.plan(1, {4}, 0, true);
  EXPECT_GT(control->copies, 0);
}

TEST_F(RecorderTest, MoreThanTheStagingHoldsIsLostAndCounted) {
  {
    RecordedEngine engine(dumps(), {}, 4096);
    engine.plan(1, Indices(4, 500));
    engine.run(1, 4);
    engine.plan(1, {3});
    engine.run(1, 1);
  }
  const SanitizeOutcome outcome = sanitize_recording();
  EXPECT_EQ(calls(outcome), 1u);
  EXPECT_EQ(outcome.survey.calls, 4u);
}

// Decode steps under CUDA graphs: a wrapper and a graph for each batch size, planned anew before
// each replay.
TEST_F(RecorderTest, ReplaysCountWithThePlanThatPreparedThem) {
  {
    RecordedEngine engine(dumps());
    auto& recorder = engine.recorder();
    std::uint64_t graphs[2];
    for (const std::uint64_t i : {0u, 1u}) {
      const std::int64_t batch = i == 0 ? 2 : 4;
      engine.plan(i + 1, Indices(static_cast<std::size_t>(batch), 1), 0, false,
                  recorder::flag::dummy);
      engine.run(i + 1, batch, recorder::flag::dummy);  // the eager warm-up
      graphs[i] = recorder.begin_capture();
      for (int layer = 0; layer < 3; ++layer) {
        engine.norm(batch, recorder::flag::dummy, graphs[i]);
        engine.run(i + 1, batch, recorder::flag::dummy, graphs[i]);
      }
      recorder.end_capture();
    }
    // Three sequences in the graph for four; two in the one for two; and four.
    recorder.set_batch(3);
    engine.plan(2, {7, 8, 9, 1}, 10);
    recorder.replay(graphs[1], 0);
    recorder.set_batch(2);
    engine.plan(1, {5, 6}, 20);
    recorder.replay(graphs[0], 0);
    recorder.set_batch(4);
    engine.plan(2, {8, 9, 10, 2}, 30);
    recorder.replay(graphs[1], 0);
    recorder.set_batch(0);  // an idle batch: all padding
    engine.plan(2, {1, 1, 1, 1}, 40);
    recorder.replay(graphs[1], 0);
    recorder.replay(999, 0);  // one that was never captured here
  }
  const SanitizeOutcome outcome = sanitize_recording();
  EXPECT_EQ(calls(outcome), 9u);
  EXPECT_EQ(count(outcome, "not_traffic"), 2u + 3 + 3) << "warm-up, and what the idle batch ran";
  const auto padded =
      std::find_if(outcome.definitions.begin(), outcome.definitions.end(),
                   [](const DefinitionOutcome& d) { return d.definition->name == decode; });
  EXPECT_EQ(padded->padded, 3u);
  std::vector<std::vector<std::int64_t>> tables;
  for (const auto& workload : workloads(decode)) tables.push_back(stored(workload, "kv_indptr"));
  std::sort(tables.begin(), tables.end());
  EXPECT_EQ(tables, (std::vector<std::vector<std::int64_t>>{
                        {0, 5, 11}, {0, 7, 15, 24, 25}, {0, 8, 17, 27, 29}}));
}

// SGLang can capture the preparation of a step, plan included, in a graph of its own.
TEST_F(RecorderTest, APlanInAGraphIsTheOneOfTheRunsAfterItsReplay) {
  {
    RecordedEngine engine(dumps());
    const auto control = engine.use_slow_device();
    auto& recorder = engine.recorder();
    const auto preparation = recorder.begin_capture();
    engine.plan(1, {1, 1}, 0, true, recorder::flag::dummy, preparation);
    recorder.end_capture();
    EXPECT_FALSE(recorder.device_of(preparation)) << "nothing is read before it";
    const auto step = recorder.begin_capture();
    for (int layer = 0; layer < 3; ++layer) engine.run(1, 2, recorder::flag::dummy, step);
    recorder.end_capture();

    engine.plan(1, {5, 6}, 20);
    recorder.replay(step, 0);
    for (int i = 0; i < 2; ++i) {
      recorder.replay(preparation, 0);
      recorder.replay(step, 0);
    }
    engine.plan(1, {7, 8}, 40);
    recorder.replay(step, 0);

    // Likewise runs outside of graphs, which repeat those before the replay.
    for (int i = 0; i < 2; ++i) engine.run(1, 2);
    recorder.replay(preparation, 0);
    for (int i = 0; i < 10; ++i) engine.run(1, 2);
    control->wait();
    engine.end();
  }
  const SanitizeOutcome outcome = sanitize_recording();
  EXPECT_EQ(calls(outcome), 6u + 2);
  EXPECT_EQ(count(outcome, "values_in_graph"), 6u + 10);
}

TEST_F(RecorderTest, AGraphThatIsGoneIsForgotten) {
  {
    RecordedEngine engine(dumps());
    const auto control = engine.use_slow_device();
    auto& recorder = engine.recorder();
    const RecordedEngine::Indices table{1, 2}, lengths{65, 64};
    std::vector<std::uint64_t> graphs;
    for (int i = 0; i < 2; ++i) {
      graphs.push_back(recorder.begin_capture());
      engine.decode_by_table(table, lengths, recorder::flag::dummy, graphs.back());
      recorder.end_capture();
    }
    recorder.forget_graph(graphs[0]);
    EXPECT_FALSE(recorder.device_of(graphs[0]));
    EXPECT_TRUE(recorder.device_of(graphs[1]));
    recorder.forget_graph(999);
    for (const std::uint64_t graph : graphs) recorder.replay(graph, 0);
    control->wait();
    engine.end();
  }
  const auto capture = read();
  EXPECT_EQ(listing(*capture), (std::vector<std::string>{"1 xqa_batch_decode_with_kv_cache"}));
}

TEST_F(RecorderTest, AGraphThatTheEngineCanLaunchItselfIsADefect) {
  {
    RecordedEngine engine(dumps());
    auto& recorder = engine.recorder();
    recorder.expose(recorder.begin_capture());  // nothing that is recorded is in it
    recorder.end_capture();
    for (int i = 0; i < 2; ++i) {
      const auto graph = recorder.begin_capture();
      engine.norm(4, recorder::flag::dummy, graph);
      recorder.end_capture();
      recorder.expose(graph);
      recorder.expose(999);  // never captured here
    }
    engine.norm(1);
  }
  EXPECT_EQ(count(sanitize_recording(), "graph_exposed"), 2u);
}

// Attention without a plan: what a graph's kernels read is in buffers that the engine fills before
// it replays the graph.
class GraphInputsTest : public RecorderTest {
 protected:
  static constexpr const char* decode64 = "gqa_paged_decode_h32_kv8_d128_ps64";
  static constexpr std::int32_t stale = 1 << 19;  ///< what is left behind the pages in use

  // A graph of three layers for `batch` sequences, with rows of `width`.
  std::uint64_t capture(RecordedEngine& engine, std::size_t batch, std::size_t width) {
    lengths_.assign(batch, 1);
    table_.assign(batch * width, 0);
    const auto graph = engine.recorder().begin_capture();
    for (int layer = 0; layer < 3; ++layer)
      engine.decode_by_table(table_, lengths_, recorder::flag::dummy, graph);
    engine.recorder().end_capture();
    return graph;
  }
  // One step of the engine.
  void replay(RecordedEngine& engine, const SlowDevice::Control& control, std::uint64_t graph,
              const Indices& lengths, std::int32_t first_page, std::uint8_t flags = 0) {
    control.wait();
    const std::size_t width = table_.size() / lengths.size();
    std::copy(lengths.begin(), lengths.end(), lengths_.begin());
    for (std::size_t row = 0; row < lengths.size(); ++row)
      for (std::size_t i = 0; i < width; ++i)
        table_[row * width + i] = static_cast<std::int32_t>(i) * 64 < lengths[row]
                                      ? first_page + static_cast<std::int32_t>(row * 1000 + i)
                                      : stale;
    engine.recorder().replay(graph, flags);
  }
  Indices lengths_, table_;
};

TEST_F(GraphInputsTest, AreReadBeforeEachReplay) {
  {
    RecordedEngine engine(dumps());
    const auto control = engine.use_slow_device();
    const auto graph = capture(engine, 3, 40);
    replay(engine, *control, graph, {65, 64, 1}, 10);
    replay(engine, *control, graph, {66, 65, 0}, 20);  // the third one pads the batch
    replay(engine, *control, graph, {66, 65, 0}, 90, recorder::flag::dummy);
    control->wait();
    engine.end();
  }
  const SanitizeOutcome outcome = sanitize_recording();
  EXPECT_EQ(outcome.survey.calls, 9u);
  EXPECT_EQ(count(outcome, "not_traffic"), 3u);
  std::vector<std::vector<std::int64_t>> indptr, indices;
  for (const auto& workload : workloads(decode64)) {
    indptr.push_back(stored(workload, "kv_indptr"));
    indices.push_back(stored(workload, "kv_indices"));
  }
  std::ranges::sort(indptr);
  std::ranges::sort(indices);
  EXPECT_EQ(indptr, (std::vector<std::vector<std::int64_t>>{{0, 2, 3, 4}, {0, 2, 4, 4}}));
  EXPECT_EQ(indices,
            (std::vector<std::vector<std::int64_t>>{{10, 11, 1010, 2010}, {20, 21, 1020, 1021}}));
}

TEST_F(GraphInputsTest, TablesAreTakenAsFarAsSequencesReach) {
  {
    RecordedEngine engine(dumps());
    const auto control = engine.use_slow_device();
    const auto graph = capture(engine, 2, 2000);
    replay(engine, *control, graph, {64 * 500, 1}, 0);  // more pages than any sequence before
    for (int tried = 0; engine.recorder().columns() < 500 && tried < 1000; ++tried)
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    replay(engine, *control, graph, {64 * 501, 1}, 0);
    control->wait();
    engine.end();
  }
  const SanitizeOutcome outcome = sanitize_recording();
  const auto found = workloads(decode64);
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0]["axes"]["num_kv_indices"], 502);
  for (const DefinitionOutcome& definition : outcome.definitions) {
    if (definition.definition->name != decode64) continue;
    EXPECT_EQ(definition.calls, 6u);
    EXPECT_EQ(definition.unseen.at("values_sampled_out"), 3u);
    // How many pages there are is known of those, too.
    EXPECT_EQ(definition.ranges.back(), (std::pair<std::int64_t, std::int64_t>{501, 502}));
  }
}

TEST_F(GraphInputsTest, WhatAGraphMakesItselfIsNotReadBeforeIt) {
  {
    RecordedEngine engine(dumps());
    const auto control = engine.use_slow_device();
    const auto graph = capture(engine, 2, 40);
    engine.recorder().forget_memory(graph, reinterpret_cast<std::uint64_t>(table_.data()), 8);
    replay(engine, *control, graph, {65, 64}, 10);
    control->wait();
    engine.end();
  }
  const SanitizeOutcome outcome = sanitize_recording();
  EXPECT_EQ(outcome.survey.calls, 3u);
  EXPECT_TRUE(workloads(decode64).empty());
}

TEST_F(GraphInputsTest, GarbageForLengthsIsNoTable) {
  {
    RecordedEngine engine(dumps());
    const auto control = engine.use_slow_device();
    const auto graph = capture(engine, 2, 40);
    replay(engine, *control, graph, {64 * 41, 1}, 10);
    replay(engine, *control, graph, {-5, 2147483647}, 10);
    control->wait();
    engine.end();
  }
  EXPECT_EQ(sanitize_recording().survey.calls, 6u);
  EXPECT_TRUE(workloads(decode64).empty());
}

TEST_F(GraphInputsTest, ATableOfOtherRowsThanThereAreLengthsIsNone) {
  {
    RecordedEngine engine(dumps());
    const auto control = engine.use_slow_device();
    lengths_ = {65, 1, 64, 64};
    table_ = {4, 5, 6, 7};
    engine.decode_by_table(table_, lengths_, 0, 0, 1);
    control->wait();
    engine.end();
  }
  EXPECT_EQ(sanitize_recording().survey.calls, 1u);
  EXPECT_TRUE(workloads(decode64).empty());
}

TEST_F(GraphInputsTest, CallsOutsideOfGraphsGiveTheSame) {
  {
    RecordedEngine engine(dumps());
    const auto control = engine.use_slow_device();
    lengths_ = {65, 1};
    table_ = {4, 5, stale, 6, stale, stale};
    engine.decode_by_table(table_, lengths_);
    control->wait();
    engine.end();
  }
  sanitize_recording();
  const auto found = workloads(decode64);
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(stored(found[0], "kv_indices"), (std::vector<std::int64_t>{4, 5, 6}));
}

TEST_F(RecorderTest, AGraphThatNobodyPlannedForIsNoTraffic) {
  {
    RecordedEngine engine(dumps());
    engine.plan(1, {1, 1}, 0, false, recorder::flag::dummy);
    const auto graph = engine.recorder().begin_capture();
    engine.run(1, 2, 0, graph);
    engine.recorder().end_capture();
    engine.recorder().replay(graph, 0);
  }
  const SanitizeOutcome outcome = sanitize_recording();
  EXPECT_EQ(calls(outcome), 0u);
  EXPECT_EQ(count(outcome, "not_traffic"), 1u) << "the capture's dummy table is no workload";
}

TEST_F(RecorderTest, CallsThatRaiseAndPlansThatRaise) {
  {
    RecordedEngine engine(dumps());
    engine.plan(1, {3});
    engine.run(1, 1);
    engine.raised(engine.plan(1, {4}));
    engine.run(1, 1);
  }
  const SanitizeOutcome outcome = sanitize_recording();
  EXPECT_EQ(calls(outcome), 1u);
  EXPECT_EQ(count(outcome, "plan_in_doubt"), 1u) << "what a failed plan left is not known";
}

// The sample: whenever a recording is stopped, each set of index tensors had the same chance; and
// it is bounded.
TEST_F(RecorderTest, TheSampleDoesNotDependOnWhenItStops) {
  const auto sample = [this](int steps, bool backwards) {
    std::filesystem::remove_all(dumps());
    {
      RecordedEngine engine(dumps(), {.kept_per_bucket = 8});
      for (int i = 0; i < steps; ++i) {
        engine.plan(1, {40, 20}, backwards ? steps - 1 - i : i);
        engine.run(1, 2);
        if (i % 3 == 0)
          engine.plan(1, {40, 20}, backwards ? steps - 1 - i : i);  // repeats change nothing
      }
    }
    const auto capture = read();
    std::set<std::string> kept;
    for (std::size_t i = 0; i < capture->size(); ++i) {
      if (!capture->function(i).ends_with(".plan")) continue;
      const Call call = capture->read(i).value();
      if (const auto values = read_front(*call.given("indices")->tensor(), 60))
        kept.insert(values->bytes);
    }
    return kept;
  };
  // Of those that are ever kept, the last eight are the sample; of n, 8 · (1 + ln(n / 8)) are
  // expected.
  const auto all = sample(1000, false), reversed = sample(1000, true);
  EXPECT_GE(all.size(), 8u);
  EXPECT_LE(all.size(), 100u);
  std::vector<std::string> both;
  std::set_intersection(all.begin(), all.end(), reversed.begin(), reversed.end(),
                        std::back_inserter(both));
  EXPECT_GE(both.size(), 8u) << "the eight of the smallest hashes are in both";
}

TEST_F(RecorderTest, TheBudgetIsNeverBroken) {
  for (const std::uint64_t budget :
       {std::uint64_t{0}, std::uint64_t{300}, std::uint64_t{20'000}, std::uint64_t{200'000}}) {
    std::filesystem::remove_all(dumps());
    {
      RecordedEngine engine(dumps(), {.budget = budget});
      for (int i = 0; i < 2000; ++i)
        engine.plan(1, Indices(static_cast<std::size_t>(i % 60 + 1), i % 7 + 1), i);
    }
    std::error_code error;
    const auto size = std::filesystem::file_size(file(), error);
    EXPECT_LE(error ? 0 : size, budget);
  }
  const auto capture = read();
  const auto& defects = capture->defects();
  EXPECT_TRUE(std::any_of(defects.begin(), defects.end(),
                          [](const CaptureDefect& d) { return d.code == "calls_over_budget"; }));
}

TEST_F(RecorderTest, AFolderThatCannotBeWrittenTurnsItOff) {
  write_text(folder_ / "file", "no folder");
  RecordedEngine engine(folder_ / "file");
  engine.norm(1);
  for (int i = 0; i < 500 && engine.recorder().is_on(); ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  EXPECT_FALSE(engine.recorder().is_on());
  EXPECT_NE(engine.recorder().failure().find("engine.cbor"), std::string::npos);
  engine.norm(1);
}

TEST_F(RecorderTest, TwoRecordersOfOneNameGetFilesOfTheirOwn) {
  {
    RecordedEngine first(dumps()), second(dumps());
    first.norm(1);
    second.norm(2);
    std::this_thread::sleep_for(std::chrono::milliseconds(600));
  }
  EXPECT_TRUE(std::filesystem::exists(dumps() / "engine-1.cbor"));
  EXPECT_EQ(read()->size(), 2u);
}

// Descriptors of the recorder have their numbers in a table of its own: in ours they are somebody
// else's.
TEST_F(RecorderTest, WhoeverEndsItKeepsTheirDescriptors) {
  constexpr int first = 100, last = 110;
  {
    RecordedEngine engine(dumps());
    engine.norm(1);
    std::this_thread::sleep_for(std::chrono::milliseconds(600));
    for (int number = first; number < last; ++number) ASSERT_EQ(::dup2(1, number), number);
  }
  for (int number = first; number < last; ++number) EXPECT_EQ(::close(number), 0) << number;
}

TEST_F(RecorderTest, RowsWithGapsAreCopiedDense) {
  {
    RecordedEngine engine(dumps());
    auto& recorder = engine.recorder();
    const std::uint32_t hooked = add_plain_function(recorder, "(table)", {"table"});
    const std::vector<std::int32_t> memory{1, 2, 3, 90, 4, 5, 6, 91};
    const std::int64_t shape[] = {2, 3}, gaps[] = {4, 1}, across[] = {1, 4};
    recorder::Recorder::CallBuilder call;
    for (const std::int64_t* strides : {gaps, across}) {
      const recorder::TensorView table{
          recorder::element_type("int32"), shape, {strides, 2}, memory.data(), false};
      recorder.begin_call(call, hooked, 0, 0, 0);
      call.arguments().name(0);
      call.arguments().tensor(table.type, shape, false);
      call.address(memory.data());
      recorder.take_values(call, table, 0, ~std::uint64_t{0}, nullptr);
      recorder.send(call);
    }
  }
  const auto capture = read();
  ASSERT_EQ(capture->size(), 2u);
  const Call dense = capture->read(0).value(), columns = capture->read(1).value();
  const auto values = read_all(*dense.given("table")->tensor(), {2, 3});
  ASSERT_TRUE(values) << values.error().message;
  EXPECT_EQ(std::string_view(values->bytes.data() + 12, 4), std::string_view("\x04\0\0\0", 4));
  EXPECT_EQ(read_all(*columns.given("table")->tensor(), {2, 3}).error().code, "values_lost");
}

// Only lists, of int32 and int64, leave their length to their calls: floats that are kept, too, do
// not.
TEST_F(RecorderTest, TensorsOfOtherTypesThanListsHaveTheirLength) {
  const std::vector<float> floats{0.5f, 0.25f, 1.0f};
  const std::vector<std::int64_t> list{4, 5};
  {
    RecordedEngine engine(dumps());
    auto& recorder = engine.recorder();
    const std::uint32_t hooked = add_plain_function(recorder, "(top_p, top_k)", {"top_p", "top_k"});
    const std::int64_t three[] = {3}, two[] = {2};
    const recorder::TensorView views[] = {
        {recorder::element_type("float32"), three, {}, floats.data(), false},
        {recorder::element_type("int64"), two, {}, list.data(), false}};
    recorder::Recorder::CallBuilder call;
    recorder.begin_call(call, hooked, 0, 0, 0);
    for (std::uint16_t i = 0; i < 2; ++i) {
      call.arguments().name(i);
      call.arguments().tensor(views[i].type, views[i].shape, false);
      call.address(views[i].data);
    }
    for (std::uint16_t i = 0; i < 2; ++i)
      recorder.take_values(call, views[i], i, ~std::uint64_t{0}, nullptr);
    recorder.send(call);
  }
  const std::string content = read_text(file());
  EXPECT_NE(content.find("shape\x81\x03"), std::string::npos);
  EXPECT_NE(content.find("shape\x81\xf6"), std::string::npos);

  const auto capture = read();
  EXPECT_TRUE(capture->defects().empty());
  const Call call = capture->read(0).value();
  EXPECT_EQ(call.shape_of(*call.given("top_p")->tensor()), Shape{3});
  const Tensor& top_k = *call.given("top_k")->tensor();
  EXPECT_EQ(call.shape_of(top_k), Shape{2});
  const auto values = read_all(top_k, call.shape_of(top_k));
  ASSERT_TRUE(values) << values.error().message;
  EXPECT_EQ(integers(*values), list);
}

// A recorder writes values before the calls that have them. In whatever order a file has them, a
// call is one with its values or one without.
TEST_F(RecorderTest, ValuesThatFollowTheirCallsAreLost) {
  const std::string bytes("\x01\0\0\0\x02\0\0\0", 8);
  const Hash128 hash = xxh3(bytes);
  Json::binary_t encoded;
  for (const std::uint64_t half : {hash.high, hash.low})
    for (int shift = 56; shift >= 0; shift -= 8)
      encoded.push_back(static_cast<std::uint8_t>(half >> shift));
  const Json list = {{"dtype", "int32"}, {"shape", {nullptr}}};
  const Json values = {{"tensor", 0}, {"count", 2}, {"hash", encoded}, {"state", "kept"}};
  const Json::binary_t content({bytes.begin(), bytes.end()});
  const std::vector<Json> records = {
      {{"record", "recording"}, {"format", 2}, {"process", 1}},
      {{"record", "site"}, {"site", 0}, {"function", "f"}, {"module", "m"}, {"signature", "(a)"}},
      {{"record", "form"},
       {"form", 0},
       {"site", 0},
       {"arguments", Json::array({Json::array({"a", list})})}},
      {{"record", "calls"},
       {"at", 1},
       {"calls", Json::array({{{"form", 0}, {"count", 1}, {"values", Json::array({values})}}})}},
      {{"record", "values"}, {"hash", encoded}, {"values", content}}};
  std::string all;
  for (const Json& record : records) {
    std::string payload;
    nlohmann::json::to_cbor(nlohmann::json(record), payload);
    all += recording::make_frame(payload);
  }
  std::filesystem::create_directories(dumps());
  write_text(file(), all);

  const auto capture = read();
  ASSERT_EQ(capture->size(), 1u);
  const Call call = capture->read(0).value();
  const Tensor& tensor = *call.given("a")->tensor();
  EXPECT_EQ(call.shape_of(tensor), Shape{2});
  EXPECT_FALSE(call.told_of(0)->has_values);
  EXPECT_EQ(read_all(tensor, {2}).error().code, "values_lost");
}

TEST_F(RecorderTest, ArgumentsOfEveryKindComeBack) {
  {
    RecordedEngine engine(dumps());
    auto& recorder = engine.recorder();
    const std::uint32_t hooked = add_plain_function(recorder, "(a, b, **kw)", {"a", "b"});
    recorder::Recorder::CallBuilder call;
    recorder.begin_call(call, hooked, 0, 0, 0);
    recorder.add_name(hooked, "late");
    auto& arguments = call.arguments();
    arguments.name(0);
    arguments.sequence(3, 20);
    arguments.none();
    arguments.boolean(true);
    arguments.sequence(0, 0);
    arguments.name(1);
    arguments.enumerator("Kind.two", 2);
    arguments.name(2);
    arguments.opaque("torch.dtype", "torch.bfloat16");
    recorder.send(call);
  }
  const auto capture = read();
  const Call call = capture->read(0).value();
  const auto& list = std::get<Sequence>(call.given("a")->data);
  EXPECT_TRUE(list.truncated);
  EXPECT_EQ(list.items.size(), 3u);
  EXPECT_EQ(std::get<Enumerator>(call.given("b")->data).value, 2);
  EXPECT_EQ(std::get<Opaque>(call.given("late")->data).text, "torch.bfloat16");
}

TEST_F(RecorderTest, AFileThatGrowsIsTakenUpWhereItWasLeft) {
  std::filesystem::create_directories(dumps());
  const auto capture = RecordingCapture::follow(dumps()).value();
  {
    RecordedEngine engine(dumps());
    std::size_t before = 0;
    for (int step = 0; step < 4; ++step) {
      engine.plan(1, {step + 1});
      engine.run(1, 1);
      std::this_thread::sleep_for(std::chrono::milliseconds(400));
      ASSERT_TRUE(capture->look());
      EXPECT_TRUE(capture->fetch());
      EXPECT_EQ(capture->size(), before + 2);
      before = capture->size();
      EXPECT_TRUE(capture->read(before - 1));
    }
  }
  capture->finish();
  ASSERT_TRUE(capture->look());
  while (capture->fetch()) {
  }
  EXPECT_TRUE(capture->defects().empty());
}

// Of many small files, what was read is not kept: a call is read again by reading its file once
// more.
TEST_F(RecorderTest, CallsOfFilesThatWereForgottenAreReadAgain) {
  std::vector<std::filesystem::path> folders;
  for (int i = 0; i < 3; ++i) {
    folders.push_back(dumps() / std::to_string(i));
    RecordedEngine engine(folders.back());
    engine.plan(1, {5, 7 + i}, 10 * i);
    engine.run(1, 2);
  }
  const auto capture = RecordingCapture::open(folders, 0).value();
  std::vector<Call> calls;
  std::vector<CallPlace> places;
  while (capture->fetch()) {
    for (std::size_t i = calls.size(); i < capture->size(); ++i) {
      calls.push_back(capture->read(i).value());
      places.push_back(capture->place(i));
    }
    capture->forget(calls.size());
  }

  ASSERT_EQ(calls.size(), 6u);
  for (std::size_t i = 0; i < calls.size(); ++i) {
    const Call again = capture->read_again(places[i]).value();
    EXPECT_EQ(again.content->function, calls[i].content->function);
    EXPECT_EQ(again.wrapper, calls[i].wrapper);
    EXPECT_EQ(again.wrapper.folder, places[i].source);
    const Value* indices = calls[i].given("indices");
    if (indices == nullptr) continue;
    const auto values = read_front(*indices->tensor(), 12),
               same = read_front(*again.given("indices")->tensor(), 12);
    ASSERT_TRUE(values && same);
    EXPECT_EQ(values->bytes, same->bytes);
  }
}

// A definition without var axes has one shape, however often what was counted is brought up to
// date.
TEST_F(RecorderTest, CallsOfADefinitionWithoutVarAxesAddUp) {
  const auto path = trace() / "definitions/rmsnorm/rmsnorm_h4096.json";
  Json json = Json::parse(read_text(path));
  json["axes"]["batch_size"] = {{"type", "const"}, {"value", 2}};
  write_text(path, json.dump());
  const Dataset dataset = Dataset::open(trace()).value();
  const Binder binder(dataset.definitions, bindings_);
  std::filesystem::create_directories(dumps());
  const auto capture = RecordingCapture::follow(dumps()).value();
  const SurveyOptions options;
  Surveyor surveyor(*capture, bindings_, binder, options);
  {
    RecordedEngine engine(dumps());
    for (int part = 0; part < 2; ++part) {
      engine.norm(2);
      std::this_thread::sleep_for(std::chrono::milliseconds(400));
      ASSERT_TRUE(capture->look());
      surveyor.advance();
    }
  }
  for (const auto& [target, counts] : surveyor.finish().definitions)
    if (target->definition->name == "rmsnorm_h4096") {
      EXPECT_EQ(counts.distribution.of_shapes.calls(), 2u);
      return;
    }
  ADD_FAILURE() << "no calls of it";
}

TEST_F(RecorderTest, EveryPrefixOfAFileOpens) {
  {
    RecordedEngine engine(dumps());
    engine.plan(1, {5, 7});
    engine.run(1, 2);
  }
  const std::string whole = read_text(file());
  for (std::size_t size = 0; size < whole.size(); size += 7) {
    write_text(file(), whole.substr(0, size));
    const auto capture = read();
    for (std::size_t i = 0; i < capture->size(); ++i) EXPECT_TRUE(capture->read(i));
    EXPECT_LE(capture->size(), 2u);
  }
}

TEST_F(RecorderTest, FilesThatAreNoRecordings) {
  EXPECT_EQ(RecordingCapture::open({folder_ / "none.cbor"}).error().code, "not_found");
  write_text(folder_ / "other.cbor", recording::make_frame("\xa0"));
  const auto capture = read(folder_ / "other.cbor");
  ASSERT_EQ(capture->defects().size(), 1u);
  EXPECT_EQ(capture->defects()[0].code, "recording_unknown");
  std::filesystem::create_directories(folder_ / "empty");
  EXPECT_EQ(RecordingCapture::open({folder_ / "empty"}).error().code, "no_recordings");
}

// A header, a site, a form and what is given; all with valid checksums.
std::string recording_of(const std::vector<Json>& records) {
  std::string content;
  const auto add = [&content](const Json& record) {
    std::string payload;
    Json::to_cbor(record, payload);
    content += recording::make_frame(payload);
  };
  add({{"record", "recording"}, {"format", 1}, {"process", 1}});
  add({{"record", "site"}, {"site", 0}, {"function", "f"}, {"module", "m"}, {"signature", "(a)"}});
  add({{"record", "form"},
       {"form", 0},
       {"site", 0},
       {"arguments", Json::array({Json::array({"a", {{"dtype", "int32"}, {"shape", {2}}}})})}});
  for (const Json& record : records) add(record);
  return content;
}

Json calls_of(std::uint64_t count) {
  return {{"record", "calls"}, {"calls", {{{"form", 0}, {"count", count}}}}};
}

std::uint64_t malformed_in(const RecordingCapture& capture) {
  for (const CaptureDefect& defect : capture.defects())
    if (defect.code == "record_malformed") return defect.count;
  return 0;
}

TEST_F(RecorderTest, WhatIsTakenOrDoesNotMatchIsRefusedAndCounted) {
  const Json::binary_t bytes({1, 0, 0, 0, 2, 0, 0, 0}), wrong(std::vector<std::uint8_t>(16, 7));
  write_text(
      folder_ / "r.cbor",
      recording_of({{{"record", "site"},
                     {"site", 0},
                     {"function", "other"},
                     {"module", "m"},
                     {"signature", "()"}},
                    {{"record", "form"}, {"form", 0}, {"site", 0}, {"arguments", Json::array()}},
                    {{"hash", wrong}, {"record", "values"}, {"values", bytes}},
                    calls_of(5)}));
  const auto capture = read(folder_ / "r.cbor");
  EXPECT_EQ(malformed_in(*capture), 3u);
  ASSERT_EQ(capture->size(), 1u);
  EXPECT_EQ(capture->function(0), "f") << "the first of a number stays";
  EXPECT_EQ(capture->read(0)->content->arguments.size(), 1u);
}

// Sums of counts do not wrap, whatever a file says.
TEST_F(RecorderTest, MoreCallsThanCanBeCountedAreRefused) {
  static constexpr std::uint64_t max_of_one = std::uint64_t{1} << 48;
  const Json full = [] {
    Json calls = Json::array();
    for (int i = 0; i < 20'000; ++i) calls.push_back({{"form", 0}, {"count", max_of_one}});
    return Json{{"record", "calls"}, {"calls", std::move(calls)}};
  }();
  write_text(folder_ / "r.cbor",
             recording_of({full, full, calls_of(max_of_one + 1), calls_of(~std::uint64_t{0})}));
  const auto capture = read(folder_ / "r.cbor");
  std::uint64_t sum = 0;
  for (std::size_t i = 0; i < capture->size(); ++i) sum += capture->sighting(i).count;
  EXPECT_EQ(sum, std::uint64_t{1} << 63);
  EXPECT_EQ(malformed_in(*capture), 40'000u - (1u << 15) + 2);
}

// Valid checksums around what no recorder writes: one defect a file, and the rest of it is read.
TEST_F(RecorderTest, RecordsThatAreNone) {
  std::string content = recording_of({});
  for (const std::string& payload :
       {std::string(1'000'000, '\x81'), std::string("\x9f\xff"), std::string("\xd9\xd9\xf7\xa0"),
        std::string("\x01"), std::string()})
    content += recording::make_frame(payload);
  std::string last;
  Json::to_cbor(calls_of(3), last);
  write_text(folder_ / "r.cbor", content + recording::make_frame(last));
  const auto capture = read(folder_ / "r.cbor");
  EXPECT_EQ(malformed_in(*capture), 5u);
  EXPECT_EQ(capture->size(), 1u);
}

TEST_F(RecorderTest, AFrameLargerThanAnyIsDamage) {
  std::string content = recording_of({calls_of(3)});
  std::string header = recording::make_frame("x").substr(0, 17);
  header.replace(13, 4, std::string("\x04\x00\x00\x01", 4));  // 64 MB and a byte
  write_text(folder_ / "r.cbor", content + header + std::string(1000, 'x'));
  const auto capture = read(folder_ / "r.cbor");
  EXPECT_EQ(capture->size(), 1u);
  EXPECT_EQ(capture->defects()[0].code, "recording_damaged");
}

// What was dealt with is forgotten: a recording of a day costs no more than one of a minute. Where
// it was stays known.
TEST_F(RecorderTest, WhatWasDealtWithIsForgotten) {
  write_text(folder_ / "r.cbor", recording_of({calls_of(1), calls_of(2)}));
  const auto capture = read(folder_ / "r.cbor");
  ASSERT_EQ(capture->size(), 2u);
  const CallPlace first = capture->place(0);
  const Call before = capture->read(0).value();
  capture->forget(2);
  EXPECT_EQ(capture->size(), 2u);

  const Call again = capture->read_again(first).value();
  EXPECT_EQ(again.count, 1u);
  EXPECT_EQ(again.content->function, "f");
  EXPECT_EQ(again.content->arguments.size(), before.content->arguments.size());
  EXPECT_NE(capture->location(first).find("form 0 at byte "), std::string::npos);
}

}  // namespace
}  // namespace cw::testing
