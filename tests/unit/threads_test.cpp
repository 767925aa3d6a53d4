// What the pipeline does in parallel, in threads of our own: reading, binding calls of shared
// plans, making workloads. Run under ThreadSanitizer by tools/test-threads; the results are
// compared in any build.
#include <thread>

#include "capture/level10/dump_capture.h"
#include "support/fixture.h"

namespace cw::testing {
namespace {

constexpr int threads = 8;

// Runs the same work in all threads at once; every thread's result must equal the first's.
template <typename Work>
void in_all_threads(Work work) {
  using Result = decltype(work());
  std::vector<Result> results(threads);
  std::vector<std::thread> running;
  for (int i = 0; i < threads; ++i)
    running.emplace_back([&results, &work, i] { results[static_cast<std::size_t>(i)] = work(); });
  for (std::thread& thread : running) thread.join();
  for (const Result& result : results) EXPECT_EQ(result, results[0]);
}

class Threads : public DatasetTest {
 protected:
  void unpack_dumps(const std::string& set) {
    unpack(set, dumps());
    dataset_ = *Dataset::open(trace());
    capture_.emplace(*level10::DumpCapture::open({dumps()}));
    binder_.emplace(dataset_.definitions, bindings_);
  }
  // Every call in its context, as the pipeline's ordered stage makes them.
  std::vector<CallInContext> contexts() const {
    Association association(bindings_);
    std::vector<CallInContext> ready;
    for (std::size_t i = 0; i < capture_->size(); ++i)
      if (auto call = capture_->read(i))
        association.add(std::make_shared<const Call>(std::move(*call)), ready);
    association.finish(ready);
    return ready;
  }
  std::vector<Hash128> keys(const std::vector<CallInContext>& calls,
                            const StoragePolicy& policy) const {
    std::vector<Hash128> result;
    for (const CallInContext& context : calls) {
      result.push_back(shape_key(context));
      const auto bound = binder_->bind(context);
      for (const Observation& observation : bound.observations)
        if (const auto workload = build_workload(observation, policy))
          result.push_back(content_key(*workload));
    }
    return result;
  }

  Dataset dataset_;
  std::optional<level10::DumpCapture> capture_;
  std::optional<Binder> binder_;
};

TEST_F(Threads, ReadTheSameCapture) {
  for (const char* set : {"cpu-small", "cpu-small-pt"}) {
    unpack_dumps(set);
    in_all_threads([this] {
      std::vector<std::size_t> arguments;
      for (std::size_t i = 0; i < capture_->size(); ++i)
        arguments.push_back(capture_->read(i)->content->arguments.size());
      return arguments;
    });
  }
}

TEST_F(Threads, BindCallsThatShareTheirPlans) {
  for (const char* set : {"cpu-small", "cpu-small-pt"}) {
    unpack_dumps(set);
    const auto calls = contexts();
    EXPECT_GT(calls.size(), 20u);
    in_all_threads([&] { return keys(calls, {}); });
    in_all_threads(
        [&] { return keys(calls, {.num_pages = NumPages::compact, .keep_values = {"q"}}); });
  }
}

TEST_F(Threads, OneAndManyGiveTheSame) {
  unpack_dumps("cpu-small");
  const auto calls = contexts();
  const auto alone = keys(calls, {});
  in_all_threads([&] { return keys(calls, {}); });
  EXPECT_EQ(keys(contexts(), {}), alone);
}

}  // namespace
}  // namespace cw::testing
