#include "traffic/traffic.h"

#include <thread>

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/file.h"
#include "support/fixture.h"
#include "traffic/event_stream.h"
#include "traffic/http.h"

namespace cw::testing {
namespace {

std::string chunked(const std::vector<std::string>& pieces,
                    const std::string& head = "HTTP/1.1 200 OK\r\n") {
  std::string text = head + "Transfer-Encoding: chunked\r\n\r\n";
  for (const std::string& piece : pieces)
    text += fmt::format("{:x}\r\n{}\r\n", piece.size(), piece);
  return text + "0\r\n\r\n";
}

const std::string good = chunked({"data: {\"text\": \"a\"}\n\n",
                                  "data: {\"text\": \"ab\", \"meta_info\": {\"prompt_tokens\": 7, "
                                  "\"completion_tokens\": 2}}\n\n",
                                  "data: [DONE]\n\n"});

/// Answers one request after the other with what it is given, in pieces of so many bytes.
class ScriptedServer {
 public:
  struct Answer {
    std::string bytes;
    std::size_t piece = 1 << 20;
    bool closes = false;  ///< afterwards, whatever the answer says
    bool hangs = false;   ///< afterwards, until the test is over
  };
  explicit ScriptedServer(std::vector<Answer> answers) : answers_(std::move(answers)) {
    listener_ = FileDescriptor(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    EXPECT_EQ(::bind(listener_.get(), reinterpret_cast<const sockaddr*>(&address), size), 0);
    EXPECT_EQ(::listen(listener_.get(), 64), 0);
    EXPECT_EQ(::getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&address), &size), 0);
    url = fmt::format("http://127.0.0.1:{}", ntohs(address.sin_port));
    thread_ = std::thread([this] { serve(); });
  }
  ~ScriptedServer() {
    is_stopping_ = true;
    thread_.join();
  }
  std::string url;
  std::size_t connections = 0;
  std::vector<std::string> requests;

 private:
  // Nothing when the client has gone or the test is over.
  bool wait(int fd) {
    pollfd polled{fd, POLLIN, 0};
    while (!is_stopping_)
      if (::poll(&polled, 1, 10) > 0) return true;
    return false;
  }
  bool read_request(int fd) {
    std::string text;
    for (char block[4096]; wait(fd);) {
      const ssize_t count = ::recv(fd, block, sizeof block, 0);
      if (count <= 0) return false;
      text.append(block, static_cast<std::size_t>(count));
      const std::size_t end = text.find("\r\n\r\n"), length = text.find("Content-Length: ");
      const std::size_t body =
          length == std::string::npos ? 0 : std::stoul(text.substr(length + 16));
      if (end != std::string::npos && text.size() == end + 4 + body) {
        requests.push_back(text);
        return true;
      }
    }
    return false;
  }
  void serve() {
    std::size_t next = 0;
    while (wait(listener_.get())) {
      const FileDescriptor connection(::accept(listener_.get(), nullptr, nullptr));
      ++connections;
      while (next < answers_.size() && read_request(connection.get())) {
        const Answer& answer = answers_[next++];
        for (std::size_t i = 0; i < answer.bytes.size(); i += answer.piece) {
          const std::string piece = answer.bytes.substr(i, answer.piece);
          ::send(connection.get(), piece.data(), piece.size(), MSG_NOSIGNAL);
          if (answer.piece < answer.bytes.size())
            std::this_thread::sleep_for(std::chrono::microseconds(200));
        }
        if (answer.hangs) wait(-1);
        if (answer.closes) break;
      }
    }
  }

  std::vector<Answer> answers_;
  FileDescriptor listener_;
  std::atomic<bool> is_stopping_ = false;
  std::thread thread_;
};

TrafficReport send(const std::string& url, std::size_t count, TrafficOptions options = {}) {
  options.url = url;
  options.schedules = {{.concurrency = 1, .rate = 0, .requests = count}};
  const auto prompts = make_random_prompts({.input_low = 2, .input_high = 4});
  TrafficControl control;
  auto report = drive(*prompts, options, control);
  EXPECT_TRUE(report) << report.error().message;
  return report.value_or(TrafficReport{});
}

long peak_memory() {  // KB
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss;
}

}  // namespace

TEST(Traffic, AnAnswerMayBeCutAnywhere) {
  for (const std::size_t piece : {1, 2, 3, 7, 100}) {
    ScriptedServer server({{good, piece}});
    const TrafficReport report = send(server.url, 1);
    EXPECT_EQ(report.completed, 1u) << piece << report.example_error;
    EXPECT_EQ(report.output_tokens, 2u);
    EXPECT_EQ(report.input_tokens, 7u);
  }
}

TEST(Traffic, ConnectionsAreKept) {
  ScriptedServer server({{good}, {good}, {good}});
  EXPECT_EQ(send(server.url, 3).completed, 3u);
  EXPECT_EQ(server.connections, 1u);
  EXPECT_NE(server.requests[2].find("POST /generate HTTP/1.1\r\nHost: 127.0.0.1:"),
            std::string::npos);
}

// A server may close an idle connection at any time; a request that was not answered at all goes
// over a new one.
TEST(Traffic, AConnectionThatWasClosedWhileIdleIsNoFailure) {
  ScriptedServer server({{good, 1 << 20, true}, {good, 1 << 20, true}, {good}});
  const TrafficReport report = send(server.url, 3);
  EXPECT_EQ(report.completed, 3u) << report.example_error;
  EXPECT_EQ(report.retried, 0u);
  EXPECT_EQ(server.connections, 3u);
}

TEST(Traffic, ABusyServerIsAskedAgainAndABrokenOneIsNot) {
  const std::string busy = "HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nwait";
  ScriptedServer server({{busy},
                         {busy},
                         {good},
                         {"HTTP/1.1 500 Oh\r\nContent-Length: 11\r\n\r\nout of luck"},
                         {chunked({"more ", "luck"}, "HTTP/1.1 400 No\r\n")}});
  const TrafficReport report = send(server.url, 3);
  EXPECT_EQ(report.completed, 1u);
  EXPECT_EQ(report.retried, 2u);
  EXPECT_EQ(report.errors.at("http_500"), 1u);
  EXPECT_EQ(report.errors.at("http_400"), 1u);
  EXPECT_EQ(report.example_error, "http_500: out of luck");
}

TEST(Traffic, WhatBreaksIsCountedByKind) {
  const std::string half = good.substr(0, good.size() / 2);
  ScriptedServer server({{"", 1, true},
                         {half, 1 << 20, true},
                         {"SIP/2.0 what\r\n\r\n", 1 << 20, true},
                         {chunked({"no event\n\n"})},
                         {chunked({"data: {}\n\n"})},
                         {chunked({"data: {\"error\": 1}\n\n", "data: [DONE]\n\n"})}});
  const TrafficReport report = send(server.url, 6);
  EXPECT_EQ(report.completed, 0u);
  EXPECT_EQ(report.errors,
            (std::map<std::string, std::size_t>{
                {"connection", 2}, {"garbage", 2}, {"truncated", 1}, {"server_error", 1}}));
}

TEST(Traffic, BodiesWithoutChunks) {
  const std::string body = "data: {}\n\ndata: [DONE]\n\n";
  ScriptedServer server(
      {{"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 24\r\n\r\n" + body, 5},
       {"HTTP/1.1 200 OK\r\nX: " + std::string(30'000, 'x') + "\r\nConnection: close\r\n\r\n" +
            body,
        1000, true},
       {"HTTP/1.0 500 No\r\n\r\nout of luck", 1 << 20, true}});
  ASSERT_EQ(body.size(), 24u);
  const TrafficReport report = send(server.url, 3);
  EXPECT_EQ(report.completed, 2u) << report.example_error;
  EXPECT_EQ(report.example_error, "http_500: out of luck");
  ScriptedServer monstrous(
      {{"HTTP/1.1 200 OK\r\nX: " + std::string(100'000, 'x') + "\r\n\r\n", 1 << 20, true}});
  EXPECT_EQ(send(monstrous.url, 1).errors.at("garbage"), 1u);
}

// The source ends while a request waits to be sent again.
TEST(Traffic, RetriesAreSentWhenThePromptsHaveRunOut) {
  const std::string busy = "HTTP/1.1 429 Busy\r\nContent-Length: 0\r\n\r\n";
  ScriptedServer server({{busy}, {busy}, {busy}});
  class One final : public PromptSource {
   public:
    Result<std::optional<Prompt>> next() override {
      if (std::exchange(is_given_, true)) return std::nullopt;
      Prompt prompt;
      prompt.token_ids = {1};
      return prompt;
    }
    bool has_text() const override { return false; }
    Result<void> rewind() override {
      is_given_ = false;
      return {};
    }

   private:
    bool is_given_ = false;
  } source;
  TrafficOptions options;
  options.url = server.url;
  options.schedules = {{.concurrency = 2, .rate = 0, .requests = 50}};
  TrafficControl control;
  const auto report = drive(source, options, control);
  ASSERT_TRUE(report) << report.error().message;
  EXPECT_EQ(report->errors.at("http_429"), 1u);
  EXPECT_EQ(report->retried, 2u);
  EXPECT_GT(report->seconds, 0.4) << "they wait before they try again";
}

TEST(Traffic, SilenceIsATimeout) {
  ScriptedServer server({{.bytes = "", .hangs = true}});
  TrafficOptions options;
  options.timeout = std::chrono::seconds(1);
  EXPECT_EQ(send(server.url, 1, options).errors.at("timeout"), 1u);
}

TEST(Traffic, NoServer) {
  const TrafficReport report = send("http://127.0.0.1:1", 1);
  EXPECT_EQ(report.errors.at("connection"), 1u);
  EXPECT_EQ(report.retried, 2u);
  EXPECT_NE(report.example_error.find("refused"), std::string::npos) << report.example_error;
  EXPECT_EQ(HttpServer::resolve("https://127.0.0.1").error().code, "url_unsupported");
  EXPECT_EQ(HttpServer::resolve("http://no.such.host.invalid:80").error().code, "connection");
}

// Not the first ones, but those that were done; the rest, wherever it stands, and what was under
// way once more.
TEST(Traffic, SendsWhatAnEarlierRunHasNotDone) {
  const TemporaryFolder folder;
  ScriptedServer first({{good}, {good}, {good}, {good}, {good}});
  EXPECT_EQ(send(first.url, 5).completed, 5u);
  {
    RequestLog log = RequestLog::open(folder.path() / "log").value();
    for (const std::size_t request : {0, 1, 2, 3}) log.note_sent(request);
    for (const std::size_t request : {0, 2, 3}) log.note_done(request);
  }
  RequestLog log = RequestLog::open(folder.path() / "log").value();
  ScriptedServer server({{good}, {good}});
  TrafficOptions options;
  options.log = &log;
  const TrafficReport report = send(server.url, 5, options);
  EXPECT_EQ(report.completed, 2u);
  EXPECT_EQ(report.sent_twice, 1u);
  ASSERT_EQ(server.requests.size(), 2u);
  const auto body = [](const std::string& request) {
    return request.substr(request.find("\r\n\r\n"));
  };
  EXPECT_EQ(body(server.requests[0]), body(first.requests[1]));
  EXPECT_EQ(body(server.requests[1]), body(first.requests[4]));
  EXPECT_EQ(log.done(), 5u);
}

// ------------------------------------------------------------------ what a server may make us hold
// or wait for: http.h has the table

TEST(TrafficLimits, AnAnswerWithoutChunksIsNotKept) {
  std::string body;
  while (body.size() < (64u << 20))
    body += "data: {\"text\": \"" + std::string(1000, 'a') + "\"}\n\n";
  body += "data: [DONE]\n\n";
  ScriptedServer server(
      {{fmt::format("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{}", body.size(), body)}});
  TrafficOptions options;
  options.max_extra_events = 1'000'000;
  const long before = peak_memory();
  EXPECT_EQ(send(server.url, 1, options).completed, 1u);
  EXPECT_LT(peak_memory() - before, 100'000) << "KB; the answer is 64 MB, and the test's own";
}

TEST(TrafficLimits, ALineHasAnEnd) {
  ScriptedServer server(
      {{chunked({"data: " + std::string(3 << 20, 'a'), "data: {}\n\n", "data: [DONE]\n\n"})}});
  const TrafficReport report = send(server.url, 1);
  EXPECT_EQ(report.errors.at("garbage"), 1u);
  EventStream events;
  events.take(std::string(1 << 20, 'a'));
  EXPECT_FALSE(events.is_garbage());
  events.take("aa");
  EXPECT_TRUE(events.is_garbage());
}

TEST(TrafficLimits, AHeaderAndAChunksSizeHaveAnEnd) {
  for (const std::string& head :
       {"HTTP/1.1 200 OK\r\nX: " + std::string(2 << 20, 'a'),
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;" + std::string(2 << 20, 'a')}) {
    ScriptedServer server({{head}});
    TrafficOptions options;
    options.timeout = std::chrono::seconds(20);
    EXPECT_EQ(send(server.url, 1, options).errors.count("garbage"), 1u) << head.substr(0, 60);
  }
}

TEST(TrafficLimits, AStreamHasAnEnd) {
  std::vector<std::string> pieces(6000, "data: {}\n\n");
  ScriptedServer server({{chunked(pieces)}});
  const TrafficReport report = send(server.url, 1);
  EXPECT_EQ(report.errors.at("garbage"), 1u);
  EXPECT_NE(report.example_error.find("ends prematurely"), std::string::npos)
      << report.example_error;
}

// Comments keep a connection alive; they are no tokens.
TEST(TrafficLimits, ARequestHasAnEnd) {
  TrafficOptions options;
  options.max_duration = std::chrono::seconds(1);
  ScriptedServer silent(
      {{.bytes = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n: a\n\r\n",
        .hangs = true}});
  const TrafficReport report = send(silent.url, 1, options);
  EXPECT_EQ(report.errors.at("timeout"), 1u);
  EXPECT_NE(report.example_error.find("unfinished after 1 s"), std::string::npos)
      << report.example_error;
}

TEST(TrafficLimits, HealthAndInformationHaveAnEnd) {
  const std::string body(1 << 21, 'x');
  ScriptedServer server(
      {{fmt::format("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{}", body.size(), body)},
       {fmt::format("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{}", body.size(), body)}});
  EXPECT_EQ(http_get(server.url + "/health").error().code, "too_large");
  const auto information =
      http_get(server.url + "/server_info", std::chrono::seconds(5), max_information);
  ASSERT_TRUE(information) << information.error().message;
  EXPECT_EQ(information->body.size(), body.size());
  EXPECT_FALSE(parse_json("[" + std::string(5'000'000, '[') + "]"));
}

TEST(Traffic, UrlsWithAPathAndBrackets) {
  const auto server = HttpServer::resolve("http://[::1]:30000/under/");
  ASSERT_TRUE(server) << server.error().message;
  EXPECT_EQ(server->post("/generate", "{}"),
            "POST /under/generate HTTP/1.1\r\nHost: [::1]:30000\r\nContent-Type: "
            "application/json\r\nContent-Length: 2\r\n\r\n{}");
}

}  // namespace cw::testing
