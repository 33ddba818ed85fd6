// SPDX-License-Identifier: Apache-2.0
// `tutti status`: asks the processes of this user on this host what their communicators do (src/observe/service.h).
#include <fmt/core.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>

#include "base/deadline.h"
#include "base/handle.h"
#include "observe/service.h"
#include "tools/tutti/command.h"

namespace tutti::tool {
namespace {

using nlohmann::json;

constexpr int64_t kAnswerMs = 3000;
constexpr size_t kMostAnswerBytes = 64 << 20;

struct Options {
  std::string which;
  bool as_json = false;
};

// The sockets of this user's processes, as the kernel lists them: "... @tutti-status-USER-PROCESS-RANDOM".
std::vector<std::string> find_sockets() {
  std::ifstream list("/proc/net/unix");
  const std::string prefix = fmt::format("@{}{}-", kStatusSocketPrefix, ::geteuid());
  std::vector<std::string> names;
  for (std::string line; std::getline(list, line);) {
    const size_t at = line.rfind(' ');
    if (at == std::string::npos || line.compare(at + 1, prefix.size(), prefix) != 0) continue;
    std::string name = line.substr(at + 2);  // without the @
    // A listening socket and each of its connections have the same name.
    if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(std::move(name));
  }
  return names;
}

// One process that was asked.
struct Question {
  UniqueFd socket;
  int process = 0;
};

Result<Question> ask(const std::string& name) {
  Question question{UniqueFd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)), 0};
  if (!question.socket) return errno_status("socket", "a Unix socket");
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (name.size() >= sizeof address.sun_path) return invalid_argument("{} is no address of ours", name);
  std::memcpy(address.sun_path + 1, name.data(), name.size());
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
  if (::connect(question.socket.get(), reinterpret_cast<const sockaddr*>(&address), size) != 0) {
    // Its queue is full of callers whom it has not taken: a blocking connect would wait for ever.
    if (errno == EAGAIN) return remote_error("{} takes no calls: is its process stopped?", name);
    return errno_status("connect", name);
  }
  // Any user may take any abstract name: believe only our own.
  ucred peer{};
  socklen_t peer_size = sizeof peer;
  if (::getsockopt(question.socket.get(), SOL_SOCKET, SO_PEERCRED, &peer, &peer_size) != 0 || peer.uid != ::geteuid())
    return invalid_usage("{} belongs to user {}", name, peer.uid);
  question.process = peer.pid;
  if (::send(question.socket.get(), kStatusRequest.data(), kStatusRequest.size(), MSG_NOSIGNAL) !=
      static_cast<ssize_t>(kStatusRequest.size()))
    return errno_status("send", name);
  return question;
}

// The answer; an error says why there is none.
Result<json> hear(const Question& question, const Deadline& deadline) {
  std::string text;
  for (char bytes[65536];;) {
    pollfd item{question.socket.get(), POLLIN, 0};
    (void)::poll(&item, 1, deadline.poll_ms(static_cast<int>(kAnswerMs)));
    const ssize_t got = ::recv(question.socket.get(), bytes, sizeof bytes, MSG_DONTWAIT);
    if (got == 0) break;
    if (got > 0) text.append(bytes, static_cast<size_t>(got));
    if (got < 0 && errno != EAGAIN && errno != EINTR)
      return errno_status("recv", fmt::format("process {}", question.process));
    if ((got < 0 && deadline.passed()) || text.size() > kMostAnswerBytes)
      return remote_error("process {} does not answer: is it stopped?", question.process);
  }
  json answer = json::parse(text, nullptr, false);
  if (!answer.is_object() || !answer.contains("communicators"))
    return remote_error("process {} gave an answer that does not parse: does it use another version of Tutti?",
                        question.process);
  return answer;
}

struct Row {
  int rank = 0;
  std::vector<std::string> cells;
};
constexpr const char* kHeads[] = {"rank", "process", "calls", "state", "operation", "number", "since", "waits for"};

std::string duration(double seconds) {
  if (seconds < 1e-3) return fmt::format("{:.0f} us", seconds * 1e6);
  if (seconds < 1) return fmt::format("{:.1f} ms", seconds * 1e3);
  if (seconds < 120) return fmt::format("{:.1f} s", seconds);
  return fmt::format("{:.0f} min", seconds / 60);
}

Row row_of(const json& communicator, const std::string& process) {
  Row row;
  row.rank = communicator.at("rank").get<int>();
  const std::string state = communicator.at("state").get<std::string>();
  std::string operation = "-", number = "-", since = "-", waits = "-";
  if (communicator.contains("call")) {
    const json& call = communicator.at("call");
    operation = call.at("operation").get<std::string>();
    if (const auto count = call.at("count").get<uint64_t>(); count > 0 || operation != "barrier")
      operation += fmt::format(" {} {}", count, call.at("type").get<std::string>());
    if (call.contains("operator")) operation += " " + call.at("operator").get<std::string>();
    if (call.contains("root")) operation += fmt::format(" root {}", call.at("root").get<int>());
    if (call.contains("peer")) operation += fmt::format(" with {}", call.at("peer").get<int>());
    number = fmt::format("{}", call.at("number").get<uint64_t>());
    since = duration(communicator.at("since_seconds").get<double>());
  }
  if (communicator.contains("waits_for")) {
    const json& whom = communicator.at("waits_for");
    waits = fmt::format("rank {}", whom.at("rank").get<int>());
    if (const int others = whom.at("others").get<int>(); others > 0) waits += fmt::format(" and {} more", others);
  }
  row.cells = {fmt::format("{}", row.rank),
               process,
               fmt::format("{}", communicator.at("calls").get<uint64_t>()),
               state,
               operation,
               number,
               since,
               waits};
  return row;
}

void print_table(const std::vector<json>& answers) {
  struct Group {
    std::string title;
    std::vector<Row> rows;
    std::vector<std::string> notes;
    std::map<int, std::pair<uint64_t, double>> waited;  // by rank: how often and how long others waited for it
  };
  std::map<std::string, Group> groups;
  for (const json& answer : answers) {
    const std::string process = fmt::format("{}", answer.at("process").get<int>());
    for (const json& one : answer.at("communicators")) {
      Group& group = groups[one.at("id").get<std::string>()];
      group.title = fmt::format("{} ({} ranks)", one.at("name").get<std::string>(), one.at("ranks").get<int>());
      group.rows.push_back(row_of(one, process));
      if (one.contains("failure"))
        group.notes.push_back(
            fmt::format("rank {} failed: {}", one.at("rank").get<int>(), one.at("failure").get<std::string>()));
      for (const json& late : one.at("waited_for")) {
        auto& [times, seconds] = group.waited[late.at("rank").get<int>()];
        times += late.at("calls").get<uint64_t>();
        seconds += late.at("seconds").get<double>();
      }
    }
  }
  for (auto& [id, group] : groups) {
    std::stable_sort(group.rows.begin(), group.rows.end(), [](const Row& a, const Row& b) { return a.rank < b.rank; });
    fmt::print("{}\n", group.title);
    std::vector<size_t> widths;
    for (size_t column = 0; column < std::size(kHeads); ++column) {
      widths.push_back(std::strlen(kHeads[column]));
      for (const Row& row : group.rows) widths.back() = std::max(widths.back(), row.cells[column].size());
    }
    const auto print_row = [&](const auto& cell) {
      for (size_t column = 0; column < widths.size(); ++column) fmt::print("  {:<{}}", cell(column), widths[column]);
      fmt::print("\n");
    };
    print_row([](size_t column) { return std::string(kHeads[column]); });
    for (const Row& row : group.rows) print_row([&](size_t column) { return row.cells[column]; });
    for (const std::string& note : group.notes) fmt::print("  {}\n", note);
    const auto latest = std::max_element(group.waited.begin(), group.waited.end(), [](const auto& a, const auto& b) {
      return a.second.second < b.second.second;
    });
    if (latest != group.waited.end())
      fmt::print("  waited for most: rank {}, {} times, {} in all\n", latest->first, latest->second.first,
                 duration(latest->second.second));
  }
}

// All of the process's communicators, or those of the name.
bool keep(json& answer, const std::string& which) {
  if (which.empty() || which == fmt::format("{}", answer.value("process", 0))) return true;
  json kept = json::array();
  for (const json& one : answer.at("communicators"))
    if (one.value("name", "") == which) kept.push_back(one);
  const bool any = !kept.empty();
  answer["communicators"] = std::move(kept);
  return any;
}

// A number is a process, if there is such a one; then only that one is asked.
std::vector<std::string> choose(std::vector<std::string> sockets, const std::string& which) {
  const std::string prefix = fmt::format("{}{}-{}-", kStatusSocketPrefix, ::geteuid(), which);
  std::vector<std::string> chosen;
  for (const std::string& name : sockets)
    if (name.starts_with(prefix)) chosen.push_back(name);
  return chosen.empty() ? sockets : chosen;
}

void run(const Options& options) {
  // All are asked before the first is heard: stopped processes cost one wait, not one each.
  std::vector<Question> questions;
  std::vector<json> answers;
  bool silent = false;
  const auto complain = [&](const Status& why) {
    fmt::print(stderr, "tutti status: {}\n", why.message());
    silent = true;
  };
  for (const std::string& name : choose(find_sockets(), options.which)) {
    Result<Question> asked = ask(name);
    if (asked.ok()) questions.push_back(std::move(*asked));
    if (!asked.ok()) complain(asked.status());
  }
  const Deadline deadline = Deadline::in_ms(kAnswerMs);
  for (const Question& question : questions) {
    Result<json> answer = hear(question, deadline);
    if (!answer.ok()) {
      complain(answer.status());
    } else if (keep(*answer, options.which)) {
      answers.push_back(std::move(*answer));
    }
  }
  if (options.as_json) {
    fmt::print("{}\n", json(answers).dump(2, ' ', false, json::error_handler_t::replace));
  } else {
    try {
      print_table(answers);
    } catch (const json::exception& failure) {
      fmt::print(stderr, "tutti status: an answer does not parse ({}): use the tutti of the job's version\n",
                 failure.what());
      throw CLI::RuntimeError(1);
    }
  }
  if (!answers.empty()) return;
  const std::string what = options.which.empty() ? "communicator" : "process or communicator '" + options.which + "'";
  fmt::print(stderr, "no {} of user {} answers on this host (and in this network namespace){}\n", what, ::geteuid(),
             silent ? ", see above" : "");
  throw CLI::RuntimeError(1);
}

}  // namespace

void add_status(CLI::App& app) {
  CLI::App* command =
      app.add_subcommand("status", "What the communicators of running jobs on this host do, and whom they wait for");
  const auto options = std::make_shared<Options>();
  command->add_option("which", options->which, "A process id, or a communicator's name; none: all");
  command->add_flag("--json", options->as_json, "The processes' answers as JSON");
  command->callback([options] { run(*options); });
}

}  // namespace tutti::tool
