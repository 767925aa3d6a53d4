#include "traffic/request_log.h"

#include <gtest/gtest.h>

#include "support/fixture.h"

namespace cw::testing {

TEST(RequestLog, AnotherProcessGoesOn) {
  const TemporaryFolder folder;
  const auto path = folder.path() / "run/found/requests";
  {
    auto log = RequestLog::open(path);
    ASSERT_TRUE(log) << log.error().message;
    for (const std::size_t request : {0, 1, 2, 3}) log->note_sent(request);
    for (const std::size_t request : {3, 0}) log->note_done(request);
    log->note_done(3);
    EXPECT_EQ(log->done(), 2u);
    EXPECT_EQ(log->sent_twice(), 0u);
  }
  write_text(path, read_text(path) + "=");  // what a kill leaves
  auto log = RequestLog::open(path);
  ASSERT_TRUE(log) << log.error().message;
  EXPECT_EQ(log->done(), 2u);
  EXPECT_TRUE(log->is_done(0) && log->is_done(3));
  EXPECT_FALSE(log->is_done(1) || log->is_done(2) || log->is_done(4) || log->is_done(1'000'000));
  for (const std::size_t request : {1, 4}) {
    log->note_sent(request);
    log->note_done(request);
  }
  EXPECT_EQ(log->sent_twice(), 1u) << "2 was not sent again, 4 is new";
  EXPECT_EQ(RequestLog::open(path)->done(), 4u);
}

TEST(RequestLog, SomethingElseIsRefused) {
  const TemporaryFolder folder;
  for (const char* text : {"hello\n", "+\n", "+1x\n", "+99999999999999\n", "1\n", "\n"}) {
    write_text(folder.path() / "log", text);
    const auto log = RequestLog::open(folder.path() / "log");
    ASSERT_FALSE(log) << text;
    EXPECT_EQ(log.error().code, "request_log_malformed");
  }
}

}  // namespace cw::testing
