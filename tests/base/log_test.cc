// SPDX-License-Identifier: Apache-2.0
// The log: levels, subsystems, file names, one line per event. Settings are read once per process, so each case runs in
// a process of its own (a GoogleTest "threadsafe" death test starts the binary again).
#include "base/log.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <initializer_list>
#include <sstream>

namespace tutti {
namespace {

using Settings = std::initializer_list<std::pair<const char*, const char*>>;

class Log : public ::testing::Test {
 protected:
  void SetUp() override { GTEST_FLAG_SET(death_test_style, "threadsafe"); }
};

void apply(Settings settings) {
  for (const auto& [name, value] : settings) ::setenv(name, value, 1);
}

[[noreturn]] void log_and_exit(Settings settings) {
  apply(settings);
  log_warn(Subsystem::Net, "warning {}", 1);
  log_info(Subsystem::Net, "net {}", 2);
  log_info(Subsystem::Plan, "plan {}", 3);
  ::_exit(0);
}

TEST_F(Log, ShowsOnlyWarningsByDefault) {
  EXPECT_EXIT(log_and_exit({}), ::testing::ExitedWithCode(0), "^[^ :]+:[0-9]+:[0-9]+ WARN net warning 1\n$");
}

TEST_F(Log, CanBeSilent) { EXPECT_EXIT(log_and_exit({{"TUTTI_DEBUG", "none"}}), ::testing::ExitedWithCode(0), "^$"); }

TEST_F(Log, FiltersBySubsystem) {
  EXPECT_EXIT(log_and_exit({{"TUTTI_DEBUG", "INFO"}, {"TUTTI_DEBUG_SUBSYS", "plan"}}), ::testing::ExitedWithCode(0),
              "^[^ ]+ INFO plan plan 3\n$");
  EXPECT_EXIT(log_and_exit({{"TUTTI_DEBUG", "info"}, {"TUTTI_DEBUG_SUBSYS", "^plan"}}), ::testing::ExitedWithCode(0),
              "^[^ ]+ WARN net warning 1\n[^ ]+ INFO net net 2\n$");
}

TEST_F(Log, KeepsAnEventOnOneLine) {
  EXPECT_EXIT(
      {
        log_warn(Subsystem::Api, "{}", "first\nforged:1:1 WARN api second\r");
        ::_exit(0);
      },
      ::testing::ExitedWithCode(0), "WARN api first forged:1:1 WARN api second \n$");
}

TEST_F(Log, WritesToAFileNamedByHostAndProcess) {
  EXPECT_EXIT(
      {
        const std::string base = ::testing::TempDir() + "tutti_log_test_" + std::to_string(::getpid());
        ::setenv("TUTTI_DEBUG_FILE", (base + ".%h.%p.%%").c_str(), 1);
        log_warn(Subsystem::Init, "to the file");
        char host[64] = {};
        ::gethostname(host, sizeof host - 1);
        const std::string name = host;
        const std::string path = base + "." + name.substr(0, name.find('.')) + "." + std::to_string(::getpid()) + ".%";
        std::stringstream text;
        text << std::ifstream(path).rdbuf();
        ::unlink(path.c_str());
        ::_exit(text.str().find(" WARN init to the file\n") != std::string::npos ? 0 : 1);
      },
      ::testing::ExitedWithCode(0), "^$");
}

TEST_F(Log, SaysWhenItsFileCannotBeOpened) {
  EXPECT_EXIT(
      log_and_exit({{"TUTTI_DEBUG_FILE", "/nonexistent/log"}}), ::testing::ExitedWithCode(0),
      "WARN init TUTTI_DEBUG_FILE: open on /nonexistent/log: No such file or directory .*standard error\n.*WARN "
      "net warning 1");
}

TEST_F(Log, LeavesErrnoAlone) {
  EXPECT_EXIT(
      {
        ::close(STDERR_FILENO);
        errno = EAGAIN;
        log_warn(Subsystem::Init, "nowhere to go");
        ::_exit(errno == EAGAIN ? 0 : 1);
      },
      ::testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace tutti
