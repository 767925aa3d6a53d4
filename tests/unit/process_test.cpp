#include "base/process.h"

#include <algorithm>
#include <csignal>
#include <thread>

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/file.h"
#include "engine/engine.h"
#include "support/fixture.h"

namespace cw::testing {

class ProcessTest : public ::testing::Test {
 protected:
  const std::filesystem::path& root() const { return folder_.path(); }
  TemporaryFolder folder_;
};

Command shell(const std::string& script) {
  return {{"sh", "-c", script}};
}

TEST_F(ProcessTest, StoppingTakesTheWholeGroupAndWaitsForIt) {
  // The leader goes first; its child ignores TERM.
  auto group =
      ProcessGroup::start(shell("(trap '' TERM; sleep 100) & exec sleep 100"), root() / "log");
  ASSERT_TRUE(group);
  const pid_t id = group->id();
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  EXPECT_TRUE(is_group_alive(id));
  group->stop(std::chrono::milliseconds(200));
  EXPECT_FALSE(is_group_alive(id));
}

TEST_F(ProcessTest, AFrozenGroupCanBeStopped) {
  auto group = ProcessGroup::start(shell("sleep 100"), root() / "log");
  ASSERT_TRUE(group);
  group->freeze();
  const pid_t id = group->id();
  group->stop(std::chrono::seconds(5));
  EXPECT_FALSE(is_group_alive(id));
}

// Workers with sessions of their own, as torchrun and Ray start them, also those whose parents have
// died.
TEST_F(ProcessTest, WhatHasSessionsOfItsOwnBelongsToIt) {
  auto group =
      ProcessGroup::start(shell("setsid sleep 100 & setsid sh -c 'setsid sleep 101 & exec sleep "
                                "102' & sh -c 'setsid sleep 103 & exit' ; exec sleep 104"),
                          root() / "log", ProcessGroup::Orphans::adopted);
  auto other = ProcessGroup::start(shell("setsid sleep 105 & exec sleep 106"), root() / "log");
  ASSERT_TRUE(group && other);
  // Also the one whose parent has died at once. None is a shell any more.
  const auto all_sleep = [](const std::set<ProcessIdentity>& processes, std::size_t min) {
    return processes.size() >= min &&
           std::all_of(processes.begin(), processes.end(), [](const auto& process) {
             return read_pseudo_file(fmt::format("/proc/{}/comm", process.pid)) == "sleep\n";
           });
  };
  for (int i = 0; i < 500 && !(all_sleep(group->look(), 5) && all_sleep(other->look(), 2)); ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  const std::set<ProcessIdentity> members = group->look(), others = other->look();
  EXPECT_EQ(members.size(), 5u);
  EXPECT_EQ(others.size(), 2u);

  const auto state = [](const ProcessIdentity& process) {
    const std::string path = fmt::format("/proc/{}/stat", process.pid);
    const std::string status = read_pseudo_file(path).value_or("");
    const std::size_t name = status.rfind(')');
    return name == std::string::npos ? ' ' : status.at(name + 2);
  };
  const auto is_stopped = [&](const ProcessIdentity& process) { return state(process) == 'T'; };
  group->freeze();
  for (int i = 0; i < 200 && !std::all_of(members.begin(), members.end(), is_stopped); ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  for (const ProcessIdentity& member : members) EXPECT_TRUE(is_stopped(member)) << member.pid;
  for (const ProcessIdentity& member : others) EXPECT_FALSE(is_stopped(member)) << member.pid;
  group->stop(std::chrono::seconds(5));
  // The orphans that nobody adopted in time are the init process's, which reaps them when it likes.
  for (const ProcessIdentity& member : members)
    EXPECT_TRUE(start_time(member.pid) != member.started || state(member) == 'Z') << member.pid;
  EXPECT_EQ(other->look(), others) << "nothing else is signalled";
}

// Somebody's processes come and go all the time; that one of them ends while it is read is nothing.
TEST_F(ProcessTest, ProcessesThatEndWhileTheyAreLookedAt) {
  constexpr int storms = 4, looks = 300;
  std::vector<ProcessGroup> groups;
  for (int i = 0; i < storms; ++i) {
    auto group =
        ProcessGroup::start(shell("while :; do /bin/true & /bin/true; done"), root() / "log");
    ASSERT_TRUE(group);
    groups.push_back(std::move(*group));
  }
  ProcessTree tree(::getpid());
  for (int i = 0; i < looks; ++i) EXPECT_FALSE(tree.look().empty());
  for (ProcessGroup& group : groups) group.stop(std::chrono::seconds(5));
}

TEST_F(ProcessTest, ANumberThatIsAnothersIsNotSignalled) {
  auto group = ProcessGroup::start(shell("exec sleep 100"), root() / "log");
  ASSERT_TRUE(group);
  const std::uint64_t started = start_time(group->id()).value();
  EXPECT_FALSE(send_signal({group->id(), started + 1}, SIGKILL));
  EXPECT_FALSE(group->status());
  EXPECT_TRUE(send_signal({group->id(), started}, 0));
}

TEST_F(ProcessTest, ExitAndOutputAreKept) {
  auto group = ProcessGroup::start(shell("echo said; echo wrong >&2; exit 3"), root() / "log");
  ASSERT_TRUE(group);
  std::optional<ExitStatus> status;
  for (int i = 0; i < 500 && !(status = group->status()); ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  ASSERT_TRUE(status);
  EXPECT_EQ(to_string(*status), "exit code 3");
  EXPECT_EQ(read_text(root() / "log"), "said\nwrong\n");
}

TEST_F(ProcessTest, WhatCannotBeStartedIsSaid) {
  const auto group = ProcessGroup::start({{"no-such-program-anywhere"}}, root() / "log");
  ASSERT_FALSE(group);
  EXPECT_EQ(group.error().code, "spawn_failed");
}

TEST_F(ProcessTest, RunGivesStdoutOrTheEndOfStderr) {
  EXPECT_EQ(run(shell("printf 'a b'")).value(), "a b");
  const auto failed = run(shell("echo because >&2; exit 4"));
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().code, "command_failed");
  EXPECT_NE(failed.error().message.find("because"), std::string::npos);
  EXPECT_EQ(run(shell("sleep 60"), std::chrono::seconds(1)).error().code, "timeout");
}

TEST_F(ProcessTest, CommandsAreShownAsAShellTakesThem) {
  EXPECT_EQ(to_shell({{"a", "b c", "it's", ""}, {{"X", "1 2"}}}), "X='1 2' a 'b c' 'it'\\''s' ''");
  const std::string odd = "a\x1b[31m\n'\xff";
  EXPECT_EQ(to_shell({{odd}}), "$'a\\x1b[31m\\x0a\\x27\\xff'");
  EXPECT_EQ(run({{"bash", "-c", "printf %s " + to_shell({{odd}})}}).value(), odd);
}

TEST_F(ProcessTest, StartTimesNameProcesses) {
  EXPECT_TRUE(start_time(::getpid()));
  EXPECT_EQ(start_time(::getpid()), start_time(::getpid()));
  EXPECT_FALSE(start_time(1 << 22));
}

TEST_F(ProcessTest, Addresses) {
  EXPECT_EQ(url_of("127.0.0.1", 30000), "http://127.0.0.1:30000");
  EXPECT_EQ(url_of("::1", 80), "http://[::1]:80");
  EXPECT_EQ(url_of("0.0.0.0", 80), "http://127.0.0.1:80");
  const auto port = free_port("127.0.0.1");
  ASSERT_TRUE(port) << port.error().message;
  EXPECT_EQ(free_port("127.0.0.1", *port).value(), *port);
  EXPECT_EQ(free_port("300.1.1.1").error().code, "no_port");

  const FileDescriptor listener(::socket(AF_INET, SOCK_STREAM, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<std::uint16_t>(*port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ASSERT_EQ(::bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  ASSERT_EQ(::listen(listener.get(), 1), 0);
  EXPECT_EQ(free_port("127.0.0.1", *port).error().code, "port_taken");
}

// What a run that was killed with -9 leaves: its engine alive, its record there, its own process
// gone.
TEST_F(ProcessTest, OrphansAreEndedByIdAndStartTime) {
  auto engine = ProcessGroup::start(shell("sleep 100"), root() / "log");
  auto other = ProcessGroup::start(shell("sleep 100"), root() / "log");
  ASSERT_TRUE(engine && other);
  std::string boot = read_text("/proc/sys/kernel/random/boot_id");
  boot.pop_back();
  const auto record = [&](pid_t group, std::uint64_t started, pid_t owner,
                          std::uint64_t owner_started) {
    write_text(
        root() / fmt::format("{}.json", group),
        fmt::format(
            R"({{"boot": "{}", "group": {}, "started": {}, "owner": {}, "owner_started": {}, "dumps": "{}"}})",
            boot, group, started, owner, owner_started, (root() / "dumps").string()));
    write_text(root() / "garbled.json", R"({"group": "x", "owner": [], "started": null})");
  };
  record(engine->id(), start_time(engine->id()).value(), 1 << 22, 5);
  record(other->id(), start_time(other->id()).value() + 1, 1 << 22,
         5);  // another process got that id
  const auto lines = end_orphans(root());
  EXPECT_EQ(lines.size(), 1u);
  EXPECT_TRUE(engine->status());
  EXPECT_FALSE(other->status());

  record(other->id(), start_time(other->id()).value(), ::getpid(), start_time(::getpid()).value());
  EXPECT_TRUE(end_orphans(root()).empty());  // its owner is alive
  EXPECT_FALSE(other->status());
}

}  // namespace cw::testing
