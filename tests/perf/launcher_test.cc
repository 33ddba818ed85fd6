// SPDX-License-Identifier: Apache-2.0
// The parent of --ranks with shell scripts as children: what it says and returns when children end, fail, die or stay.
#include "perf/launcher.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <iterator>
#include <thread>

#include "perf/outcome.h"

namespace tutti::perf {
namespace {

using std::chrono::steady_clock;

struct Result {
  int status;
  std::string messages;
  double seconds;
};

// $PERF_LOCAL_JOB starts with the number of the process.
LaunchPlan plan_for(const std::string& script, int processes) {
  return {.name = "perf", .executable = "/bin/sh", .arguments = {"sh", "-c", script}, .processes = processes};
}

Result run(LaunchPlan plan) {
  std::FILE* messages = std::tmpfile();
  plan.messages = messages;
  const auto begin = steady_clock::now();
  Result result{launch(plan), "", std::chrono::duration<double>(steady_clock::now() - begin).count()};
  std::rewind(messages);
  char buffer[4096];
  result.messages.assign(buffer, std::fread(buffer, 1, sizeof buffer, messages));
  std::fclose(messages);
  return result;
}

TEST(Launcher, AllEndWell) {
  const Result result = run(plan_for("exit 0", 5));
  EXPECT_EQ(result.status, kExitOk);
  EXPECT_EQ(result.messages, "");
}

TEST(Launcher, AFailureIsNamedAndEndsTheOthers) {
  const Result result = run(plan_for("case $PERF_LOCAL_JOB in 2/4/*) exit 3;; esac; exec sleep 60", 4));
  EXPECT_EQ(result.status, kExitFailed);
  EXPECT_NE(result.messages.find("rank process 2 of 4"), std::string::npos) << result.messages;
  EXPECT_NE(result.messages.find("exit status 3"), std::string::npos) << result.messages;
  EXPECT_LT(result.seconds, 20);
}

TEST(Launcher, ADeathIsNamedAndEndsTheOthers) {
  const Result result = run(plan_for("case $PERF_LOCAL_JOB in 0/*) kill -9 $$;; esac; exec sleep 60", 3));
  EXPECT_EQ(result.status, kExitFailed);
  EXPECT_NE(result.messages.find("rank process 0 of 3"), std::string::npos) << result.messages;
  EXPECT_NE(result.messages.find("signal 9"), std::string::npos) << result.messages;
  EXPECT_LT(result.seconds, 20);
}

TEST(Launcher, WhoIgnoresTheEndIsKilled) {
  LaunchPlan plan =
      plan_for("trap '' TERM; case $PERF_LOCAL_JOB in 1/*) sleep 0.3; exit 3;; esac; while :; do :; done", 2);
  plan.grace_ms = 100;
  const Result result = run(plan);
  EXPECT_EQ(result.status, kExitFailed);
  EXPECT_LT(result.seconds, 20);
}

TEST(Launcher, WrongValuesAreNoDeath) {
  const Result result = run(plan_for("sleep 0.1; exit 1", 3));
  EXPECT_EQ(result.status, kExitWrong);
  EXPECT_EQ(result.messages, "");
  EXPECT_EQ(run(plan_for("exit 2", 3)).status, kExitUsage);
}

TEST(Launcher, AMissingProgram) {
  LaunchPlan plan = plan_for("", 2);
  plan.executable = "/nonexistent";
  const Result result = run(plan);
  EXPECT_EQ(result.status, kExitFailed);
  EXPECT_NE(result.messages.find("could not be started"), std::string::npos) << result.messages;
}

// The launcher in a process of its own, so that signals meet nobody else. Children write their pids to a file.
class LauncherProcess : public testing::TestWithParam<int> {};

bool lives(pid_t pid) {
  std::ifstream stat("/proc/" + std::to_string(pid) + "/stat");
  std::string number, name, state;
  return stat >> number >> name >> state && state != "Z";
}

TEST_P(LauncherProcess, LeavesNothingBehind) {
  const std::string path = testing::TempDir() + "perf_launcher_" + std::to_string(::getpid());
  const std::string script = "echo $$ >> " + path + "; exec sleep 60";
  const pid_t pid = ::fork();
  if (pid == 0) {
    LaunchPlan plan = plan_for(script, 3);
    std::FILE* quiet = std::fopen("/dev/null", "w");
    plan.messages = quiet;
    ::_exit(launch(plan));
  }
  std::vector<pid_t> children;
  for (int i = 0; i < 1000 && children.size() < 3; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    std::ifstream file(path);
    children.assign(std::istream_iterator<pid_t>(file), {});
  }
  ASSERT_EQ(children.size(), 3u);
  ::kill(pid, GetParam());
  int state = 0;
  ::waitpid(pid, &state, 0);
  if (GetParam() == SIGKILL) {
    EXPECT_TRUE(WIFSIGNALED(state));
  } else {
    EXPECT_EQ(WEXITSTATUS(state), 128 + GetParam());
  }
  for (const pid_t child : children) {
    for (int i = 0; i < 500 && lives(child); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
    EXPECT_FALSE(lives(child));
  }
  std::remove(path.c_str());
}

INSTANTIATE_TEST_SUITE_P(Signals, LauncherProcess, testing::Values(SIGINT, SIGTERM, SIGKILL));

}  // namespace
}  // namespace tutti::perf
