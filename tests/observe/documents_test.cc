// SPDX-License-Identifier: Apache-2.0
// The two documents against the tool that reads them, and the words of the service.
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "base/ticks.h"
#include "observe/observed.h"
#include "observe/service.h"
#include "tools/tutti/dumps.h"

namespace tutti {
namespace {

constexpr std::string_view kOperations[] = {"all_reduce", "send_recv"}, kTypes[] = {"float32"}, kOperators[] = {"sum"},
                           kAlgorithms[] = {"ring"}, kProtocols[] = {"simple"};
constexpr uint32_t kBytes[] = {4};
constexpr CallNames kNames{.operations = kOperations,
                           .types = kTypes,
                           .operators = kOperators,
                           .algorithms = kAlgorithms,
                           .protocols = kProtocols,
                           .type_bytes = kBytes,
                           .send_receive = 1,
                           .reduces = 1,
                           .rooted = 0};

Observed observed(const std::string& name, int rank = 1) {
  return Observed({.name = name, .id = "c0ffee", .rank = rank, .ranks = 2, .names = &kNames}, *Recorder::create());
}

std::string read(const std::filesystem::path& path) {
  std::ifstream file(path);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

class DumpTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = (std::filesystem::temp_directory_path() / "tutti-dump-XXXXXX").string();
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    folder_ = name;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  std::filesystem::path folder_;
};

TEST_F(DumpTest, HoldsEveryFieldOfEveryCall) {
  start_tick_clock();
  Observed one = observed("a \"name\"\n\xff");
  const uint64_t now = ticks();
  one.recorder.end(one.recorder.begin({.number = 1, .queued = now, .started = now + 5, .count = 10, .channels = 2}),
                   now + 9);
  one.recorder.begin({.number = 1,
                      .queued = now,
                      .started = now + 7,
                      .count = 3,
                      .root = 0,
                      .operation = 1,
                      .flags = CallRecord::kSend});
  one.recorder.begin({.number = 2, .queued = now, .started = now + 8, .count = 1, .flags = CallRecord::kBarrier});
  one.set_failure("rank 0 left");
  one.set_failure("a later reason");
  one.arrivals.add(0, 100);
  const auto path = write_dump(one, DumpReason::Request, (folder_ / "%r-%p-%%-%x").string());
  ASSERT_TRUE(path.ok()) << path.status().message();
  EXPECT_EQ(*path, (folder_ / fmt::format("1-{}-%-%x", ::getpid())).string());
  const auto ranks = tool::parse_dump(read(*path), *path);
  ASSERT_TRUE(ranks.ok()) << ranks.status().message();
  ASSERT_EQ(ranks->size(), 1u);
  const tool::DumpedRank& rank = ranks->front();
  EXPECT_EQ(rank.rank, 1);
  EXPECT_EQ(rank.ranks, 2);
  EXPECT_EQ(rank.failure, "rank 0 left");
  EXPECT_EQ(rank.communicator, "a \"name\"\n\xc3\xbf");  // a byte that is no UTF-8 reads as the letter of its number
  ASSERT_EQ(rank.calls.size(), 3u);
  const tool::DumpedCall& first = rank.calls[0];
  EXPECT_EQ(first.operation, "all_reduce");
  EXPECT_EQ(first.op, "sum");
  EXPECT_EQ(first.bytes, 40u);
  EXPECT_EQ(first.queued, now);
  EXPECT_EQ(first.started, now + 5);
  EXPECT_EQ(first.ended, now + 9);
  EXPECT_EQ(first.channels, 2);
  EXPECT_EQ(rank.calls[1].operation, "send");
  EXPECT_EQ(rank.calls[1].root, 0);
  EXPECT_EQ(rank.calls[1].ended, 0u);
  EXPECT_EQ(rank.calls[2].operation, "barrier");
  EXPECT_EQ(rank.calls[2].bytes, 0u);
  for (const auto& entry : std::filesystem::directory_iterator(folder_))
    EXPECT_EQ(entry.path(), *path) << "a draft is left";
}

TEST_F(DumpTest, AFileThatCannotBeWrittenIsAnErrorThatNamesIt) {
  const Observed one = observed("job");
  const auto path = write_dump(one, DumpReason::Request, (folder_ / "none" / "%r").string());
  ASSERT_FALSE(path.ok());
  EXPECT_NE(path.status().message().find("none/1"), std::string::npos) << path.status().message();
}

TEST_F(DumpTest, CommunicatorsOfOnePathAreTogetherInOneFile) {
  Observed a = observed("a", 0), b = observed("b", 1);
  {
    const auto watch_a = Watch::begin(a), watch_b = Watch::begin(b);
    write_all_dumps(DumpReason::Signal, (folder_ / "all").string());
    write_all_dumps(DumpReason::Signal, (folder_ / "one-%c").string());
  }
  write_all_dumps(DumpReason::Signal, (folder_ / "none-%r").string());  // nobody is left
  const auto count = [&](const char* name) { return tool::parse_dump(read(folder_ / name), name)->size(); };
  EXPECT_EQ(count("all"), 2u);
  EXPECT_EQ(count("one-a"), 1u);
  EXPECT_EQ(count("one-b"), 1u);
  EXPECT_FALSE(std::filesystem::exists(folder_ / "none-0"));
}

TEST(Status, TellsWhatACommunicatorDoesAndWhomItWaitsFor) {
  Observed one = observed("job");
  const auto watch = Watch::begin(one);
  const auto status = [&] {
    const auto document = nlohmann::json::parse(status_document());
    EXPECT_EQ(document.at("process"), ::getpid());
    return document.at("communicators").at(0);
  };
  EXPECT_EQ(status().at("state"), "idle");
  EXPECT_FALSE(status().contains("call"));
  const uint64_t call = one.recorder.begin({.number = 7, .queued = ticks(), .started = ticks(), .count = 2});
  EXPECT_EQ(status().at("state"), "running");
  EXPECT_EQ(status().at("call").at("number"), 7);
  one.arrivals.waits_for(0, 3);
  const auto waiting = status();
  EXPECT_EQ(waiting.at("state"), "waiting");
  EXPECT_EQ(waiting.at("waits_for").at("rank"), 0);
  EXPECT_EQ(waiting.at("waits_for").at("others"), 3);
  EXPECT_GE(waiting.at("since_seconds").get<double>(), 0.0);
  one.arrivals.waits_for(-1, 0);
  one.recorder.end(call, ticks());
  EXPECT_EQ(status().at("state"), "idle");
  EXPECT_EQ(status().at("call").at("operation"), "all_reduce");
  one.set_failure("lost");
  EXPECT_EQ(status().at("state"), "failed");
  EXPECT_EQ(status().at("failure"), "lost");
}

TEST(Status, OfCallsSideBySideShowsTheOldestThatHasNotEnded) {
  Observed one = observed("job");
  const auto watch = Watch::begin(one);
  one.recorder.end(one.recorder.begin({.number = 1}), 5);
  const uint64_t slow = one.recorder.begin({.number = 2});
  one.recorder.begin({.number = 3});
  (void)slow;
  EXPECT_EQ(nlohmann::json::parse(status_document()).at("communicators").at(0).at("call").at("number"), 2);
}

TEST(StatusRequest, IsOneLineAndNothingElse) {
  EXPECT_EQ(parse_status_request(""), StatusRequest::Incomplete);
  EXPECT_EQ(parse_status_request(kStatusRequest.substr(0, 4)), StatusRequest::Incomplete);
  EXPECT_EQ(parse_status_request(kStatusRequest), StatusRequest::Status);
  for (const std::string_view bad : {"GET / HTTP/1.1\r\n", "status 2\n", "\n", "x"})
    EXPECT_EQ(parse_status_request(bad), StatusRequest::Malformed) << bad;
  EXPECT_EQ(parse_status_request(std::string(kStatusRequest) + std::string(200, 'x')), StatusRequest::Malformed);
}

TEST(DumpSignal, TakesSignalsThatAProgramCanSpare) {
  EXPECT_EQ(*parse_signal(""), 0);
  EXPECT_EQ(*parse_signal("USR2"), SIGUSR2);
  EXPECT_EQ(*parse_signal("SIGUSR1"), SIGUSR1);
  EXPECT_EQ(*parse_signal(fmt::format("{}", SIGRTMIN + 1)), SIGRTMIN + 1);
  for (const char* bad : {"KILL", "SEGV", "9", "usr2", "0", "-1", "USR"}) {
    const auto signal = parse_signal(bad);
    ASSERT_FALSE(signal.ok()) << bad;
    EXPECT_NE(signal.status().message().find("TUTTI_DUMP_SIGNAL"), std::string::npos);
  }
}

}  // namespace
}  // namespace tutti
