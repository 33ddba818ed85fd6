// SPDX-License-Identifier: Apache-2.0
// The environment table: every type's values, and what a user is told when one does not parse.
#include "base/env.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <map>

namespace tutti {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using Settings = std::map<std::string, std::string>;

Status parse(const Settings& settings, Env& env) {
  return parse_env(
      [&](const char* name) -> std::optional<std::string> {
        const auto found = settings.find(name);
        return found == settings.end() ? std::nullopt : std::optional<std::string>(found->second);
      },
      env);
}

TEST(Environment, HasDefaultsThatParse) {
  Settings defaults;
  for (const EnvVariable& row : env_variables()) defaults[row.name] = row.fallback;
  Env from_nothing, from_defaults;
  EXPECT_TRUE(parse({}, from_nothing).ok());
  EXPECT_TRUE(parse(defaults, from_defaults).ok());
  EXPECT_EQ(from_nothing.debug, LogLevel::Warn);
  EXPECT_EQ(from_nothing.timeout, 600'000);
  EXPECT_EQ(from_nothing.init_timeout, 120'000);
  EXPECT_EQ(from_nothing.algorithm, "auto");
  EXPECT_EQ(from_defaults.timeout, from_nothing.timeout);
}

TEST(Environment, DescribesEveryVariable) {
  for (const EnvVariable& row : env_variables()) {
    EXPECT_EQ(std::string(row.name).rfind("TUTTI_", 0), 0u) << row.name;
    EXPECT_NE(std::string(row.help), "") << row.name;
  }
}

TEST(Environment, ReadsDurations) {
  const std::map<std::string, int64_t> cases = {{"500ms", 500}, {"30s", 30'000},  {"10min", 600'000}, {"2h", 7'200'000},
                                                {"never", -1},  {" 3 S ", 3'000}, {"0ms", 0}};
  for (const auto& [text, expected] : cases) {
    Env env;
    EXPECT_TRUE(parse({{"TUTTI_TIMEOUT", text}}, env).ok()) << text;
    EXPECT_EQ(env.timeout, expected) << text;
  }
}

TEST(Environment, ReadsSizes) {
  const std::map<std::string, uint64_t> cases = {{"0", 0},          {"4096", 4096},     {"512K", 512 << 10},
                                                 {"4MiB", 4 << 20}, {"3g", 3ull << 30}, {"2T", 2ull << 40}};
  for (const auto& [text, expected] : cases) {
    Env env;
    EXPECT_TRUE(parse({{"TUTTI_SLICE_BYTES", text}}, env).ok()) << text;
    EXPECT_EQ(env.slice_bytes, expected) << text;
  }
}

TEST(Environment, TreatsEmptyAsUnset) {
  Env env;
  EXPECT_TRUE(parse({{"TUTTI_TIMEOUT", ""}, {"TUTTI_MAX_CHANNELS", " "}}, env).ok());
  EXPECT_EQ(env.timeout, 600'000);
}

TEST(Environment, NamesVariableValueAndWhatIsAllowed) {
  const Settings bad = {{"TUTTI_TIMEOUT", "soon"},
                        {"TUTTI_INIT_TIMEOUT", "30"},
                        {"TUTTI_MAX_CHANNELS", "-1"},
                        {"TUTTI_SLICE_BYTES", "4Q"},
                        {"TUTTI_DEBUG", "loud"},
                        {"TUTTI_SOCKET_FAMILY", "ipx"},
                        {"TUTTI_PROTO", "simple,LL256"},
                        {"TUTTI_TRANSPORTS", "^pigeon"},
                        {"TUTTI_GPU_DIRECT", "1"},
                        {"TUTTI_GPU_DIRECT_READ", "yes"},
                        {"TUTTI_DEBUG_SUBSYS", "init,,net"},
                        {"TUTTI_POLL_COUNT", "99999999999999999999"},
                        {"TUTTI_BUFFER_BYTES", "9999999999G"}};
  for (const auto& [name, value] : bad) {
    Env env;
    const Status status = parse({{name, value}}, env);
    EXPECT_EQ(status.code(), Code::InvalidArgument) << name;
    EXPECT_THAT(status.message(), AllOf(HasSubstr(name + "=\"" + value + "\""), HasSubstr("allowed is")));
  }
}

TEST(Environment, ReportsAllProblemsAndKeepsTheDefaults) {
  Env env;
  const Status status =
      parse({{"TUTTI_TIMEOUT", "soon"}, {"TUTTI_MIN_CHANNELS", "x"}, {"TUTTI_MAX_CHANNELS", "8"}}, env);
  EXPECT_THAT(status.message(), AllOf(HasSubstr("TUTTI_TIMEOUT"), HasSubstr("TUTTI_MIN_CHANNELS")));
  EXPECT_EQ(env.timeout, 600'000);
  EXPECT_EQ(env.min_channels, 0);
  EXPECT_EQ(env.max_channels, 8);
}

TEST(Environment, CollectsUnknownNames) {
  ASSERT_EQ(::setenv("TUTTI_TIEMOUT", "1s", 1), 0);
  ASSERT_EQ(::setenv("TUTTI_TIMEOUT", "1s", 1), 0);
  EXPECT_THAT(unknown_env(), ::testing::Contains("TUTTI_TIEMOUT"));
  EXPECT_THAT(unknown_env(), ::testing::Not(::testing::Contains("TUTTI_TIMEOUT")));
  ::unsetenv("TUTTI_TIEMOUT");
  ::unsetenv("TUTTI_TIMEOUT");
}

TEST(Filter, IncludesAndExcludes) {
  EXPECT_TRUE(filter_admits("auto", "ring"));
  EXPECT_TRUE(filter_admits("all", "net"));
  EXPECT_TRUE(filter_admits("", "ring"));
  EXPECT_TRUE(filter_admits("ring, tree", "tree"));
  EXPECT_FALSE(filter_admits("ring,tree", "direct"));
  EXPECT_FALSE(filter_admits("^tcp", "tcp"));
  EXPECT_TRUE(filter_admits("^tcp", "shm"));
  EXPECT_FALSE(filter_admits("^tcp,^shm", "shm"));
  EXPECT_FALSE(filter_admits("all,^net", "net"));
}

}  // namespace
}  // namespace tutti
