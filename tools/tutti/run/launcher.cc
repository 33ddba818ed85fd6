// SPDX-License-Identifier: Apache-2.0
// See launcher.h. One thread, one poll loop; signals arrive through a descriptor.
#include "tools/tutti/run/launcher.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <csignal>
#include <cstring>
#include <utility>

#include "base/env.h"

namespace tutti::tool {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kForwarded[] = {SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2, SIGCONT};
constexpr int kCannotStart = 127;

// Runs "$@" as the rank. Its standard input is the connection: first the secret, then names of signals; its end means
// that `tutti run` is gone. What a shell starts in the background ignores INT, so that becomes TERM.
constexpr const char* kRemote =
    "exec 3<&0 </dev/null\n"
    "IFS= read -r TUTTI_JOB_SECRET <&3 || exit 1\n"
    "export TUTTI_JOB_SECRET\n"
    "\"$@\" 3<&- & rank=$!\n"
    "(while IFS= read -r signal <&3; do [ \"$signal\" = INT ] && signal=TERM; kill -s \"$signal\" $rank; done; kill -s TERM $rank; sleep 5; kill -s KILL "
    "$rank) "
    ">/dev/null 2>&1 & watcher=$!\n"
    "wait $rank; status=$?\n"
    "kill $watcher 2>/dev/null\n"
    "exit $status\n";

std::string signal_name(int signal) {
  const char* name = ::sigabbrev_np(signal);
  return name != nullptr ? name : std::to_string(signal);
}

struct Stream {
  int from = -1, to = -1;  // a pipe of the rank, and our own descriptor
  std::string line;
};
struct Rank {
  pid_t pid = -1;
  bool running = false;
  int control = -1;  // over ssh: its standard input
  Stream streams[2];
};

class Launcher {
 public:
  explicit Launcher(const RunPlan& plan) : plan_(plan), ranks_(plan.ranks.size()) {}

  int run() {
    ::signal(SIGPIPE, SIG_IGN);  // a reader of our output, or ssh, may go
    sigset_t watched;
    sigemptyset(&watched);
    sigaddset(&watched, SIGCHLD);
    for (const int signal : kForwarded) sigaddset(&watched, signal);
    ::sigprocmask(SIG_BLOCK, &watched, &original_mask_);
    signals_ = ::signalfd(-1, &watched, SFD_CLOEXEC | SFD_NONBLOCK);
    if (signals_ < 0) {
      fmt::print(stderr, "tutti run: signalfd: {}\n", std::strerror(errno));
      return 1;
    }
    for (size_t rank = 0; rank < ranks_.size() && status_ == 0; ++rank) start(rank);
    while (running() > 0 || streaming()) {
      serve();
      // What the ranks left running may hold their output open: it gets as long as a rank that is told to end.
      if (running() == 0 && !ending_) begin_to_end();
    }
    ::close(signals_);
    return status_;
  }

 private:
  size_t running() const {
    return static_cast<size_t>(
        std::count_if(ranks_.begin(), ranks_.end(), [](const Rank& rank) { return rank.running; }));
  }
  bool streaming() const {
    return std::any_of(ranks_.begin(), ranks_.end(),
                       [](const Rank& rank) { return rank.streams[0].from >= 0 || rank.streams[1].from >= 0; });
  }
  std::string who(size_t rank) const {
    const std::string& host = plan_.ranks[rank].host;
    return host.empty() ? fmt::format("rank {}", rank) : fmt::format("rank {} on {}", rank, host);
  }
  void fail(int status, const std::string& message) {
    if (status_ != 0) return;  // the first counts
    status_ = status;
    fmt::print(stderr, "tutti run: {}\n", message);
    ask_to_end(SIGTERM);
  }

  std::vector<std::string> variables_of(size_t rank) const {
    const RankPlan& place = plan_.ranks[rank];
    return {fmt::format("RANK={}", rank),
            fmt::format("WORLD_SIZE={}", ranks_.size()),
            fmt::format("LOCAL_RANK={}", place.local_rank),
            fmt::format("LOCAL_WORLD_SIZE={}", place.local_ranks),
            fmt::format("MASTER_ADDR={}", plan_.master_address),
            fmt::format("MASTER_PORT={}", plan_.master_port)};
  }

  // ssh HOST 'cd DIR && exec env RANK=... sh -c PROGRAM sh COMMAND...'
  std::vector<std::string> remote_command(size_t rank) const {
    char folder[4096];
    std::string line =
        "cd " + quoted_for_shell(::getcwd(folder, sizeof folder) != nullptr ? folder : "/") + " && exec env";
    for (const std::string& variable : variables_of(rank)) line += " " + quoted_for_shell(variable);
    for (const std::string& name : plan_.forward)
      if (const auto value = environment_variable(name.c_str())) line += " " + quoted_for_shell(name + "=" + *value);
    line += " sh -c " + quoted_for_shell(kRemote) + " sh";
    for (const std::string& word : plan_.command) line += " " + quoted_for_shell(word);
    std::vector<std::string> command = plan_.ssh;
    command.push_back(plan_.ranks[rank].host);
    command.push_back(line);
    return command;
  }

  void start(size_t index) {
    Rank& rank = ranks_[index];
    const bool remote = !plan_.ranks[index].host.empty();
    int control[2] = {-1, -1}, output[2][2] = {{-1, -1}, {-1, -1}};
    bool piped = !remote || ::pipe2(control, O_CLOEXEC) == 0;
    for (auto& pipe : output) piped = piped && (!plan_.prefix || ::pipe2(pipe, O_CLOEXEC) == 0);
    // Everything that allocates happens before the fork.
    std::vector<std::string> words = remote ? remote_command(index) : plan_.command;
    std::vector<std::string> variables;
    if (!remote) {
      variables = variables_of(index);
      variables.push_back("TUTTI_JOB_SECRET=" + plan_.secret);
    }
    std::vector<char*> arguments, environment;
    for (std::string& word : words) arguments.push_back(word.data());
    arguments.push_back(nullptr);
    for (char** one = environ; *one != nullptr; ++one) {
      const std::string_view name(*one, std::strcspn(*one, "=") + 1);
      const bool replaced = std::any_of(variables.begin(), variables.end(),
                                        [&](const std::string& variable) { return variable.starts_with(name); });
      if (!replaced) environment.push_back(*one);
    }
    for (std::string& variable : variables) environment.push_back(variable.data());
    environment.push_back(nullptr);

    const int nowhere = remote ? -1 : ::open("/dev/null", O_RDONLY | O_CLOEXEC);
    const pid_t parent = ::getpid();
    const pid_t pid = piped ? ::fork() : -1;
    if (pid == 0) {
      // Over ssh the end of its input is enough, and lets the other end see to its rank first.
      if (!remote) ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      if (::getppid() != parent) ::_exit(kCannotStart);
      ::setpgid(0, 0);  // a terminal's Ctrl-C comes through us, once
      ::signal(SIGPIPE, SIG_DFL);
      ::sigprocmask(SIG_SETMASK, &original_mask_, nullptr);
      // None of them is in the terminal's foreground: reading from it would stop them.
      ::dup2(remote ? control[0] : nowhere, STDIN_FILENO);
      if (plan_.prefix) {
        ::dup2(output[0][1], STDOUT_FILENO);
        ::dup2(output[1][1], STDERR_FILENO);
      }
      ::execvpe(arguments[0], arguments.data(), environment.data());
      const char* why = std::strerror(errno);
      (void)!::write(STDERR_FILENO, why, std::strlen(why));
      (void)!::write(STDERR_FILENO, "\n", 1);
      ::_exit(kCannotStart);
    }
    const int error = errno;
    for (const int end : {nowhere, control[0], output[0][1], output[1][1]})
      if (end >= 0) ::close(end);
    rank.pid = pid;
    rank.running = pid > 0;
    rank.control = control[1];
    for (int i = 0; i < 2; ++i) rank.streams[i] = {output[i][0], i == 0 ? STDOUT_FILENO : STDERR_FILENO, {}};
    if (pid < 0) return fail(1, fmt::format("{} cannot be started: {}", who(index), std::strerror(error)));
    ::setpgid(pid, pid);  // whoever comes first
    if (remote) say(rank, plan_.secret);
  }

  void say(Rank& rank, const std::string& line) {
    const std::string whole = line + "\n";
    (void)!::write(rank.control, whole.data(), whole.size());  // a few bytes: a pipe takes them whole
  }

  void serve() {
    std::vector<pollfd> items = {{signals_, POLLIN, 0}};
    std::vector<std::pair<size_t, int>> owners = {{0, 0}};
    for (size_t rank = 0; rank < ranks_.size(); ++rank) {
      for (int i = 0; i < 2; ++i) {
        if (ranks_[rank].streams[i].from < 0) continue;
        items.push_back({ranks_[rank].streams[i].from, POLLIN, 0});
        owners.emplace_back(rank, i);
      }
    }
    int timeout_ms = -1;
    if (ending_) {
      const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(kill_at_ - Clock::now()).count();
      timeout_ms = static_cast<int>(std::max<int64_t>(left + 1, 0));
    }
    if (::poll(items.data(), items.size(), timeout_ms) < 0 && errno != EINTR) return;
    read_signals();
    for (size_t i = 1; i < items.size(); ++i)
      if (items[i].revents != 0) relay(owners[i].first, ranks_[owners[i].first].streams[owners[i].second]);
    if (ending_ && Clock::now() >= kill_at_) end_now();
  }

  void read_signals() {
    signalfd_siginfo info;
    while (::read(signals_, &info, sizeof info) == sizeof info) {
      const auto signal = static_cast<int>(info.ssi_signo);
      if (signal == SIGCHLD) continue;
      const bool ends = signal == SIGINT || signal == SIGTERM || signal == SIGHUP;
      if (ends && status_ == 0) status_ = 128 + signal;
      ends ? ask_to_end(signal) : send_to_all(signal);
    }
    reap();
  }

  void reap() {
    for (size_t rank = 0; rank < ranks_.size(); ++rank) {
      Rank& one = ranks_[rank];
      int state = 0;
      if (!one.running || ::waitpid(one.pid, &state, WNOHANG) != one.pid) continue;
      one.running = false;
      if (one.control >= 0) ::close(std::exchange(one.control, -1));
      // What it left in its own group would hold its output open, and outlive the job.
      if (ending_) ::kill(-one.pid, SIGKILL);
      if (WIFSIGNALED(state)) {
        const int signal = WTERMSIG(state);
        fail(128 + signal, fmt::format("{} was ended by signal {} ({})", who(rank), signal, ::strsignal(signal)));
      } else if (WEXITSTATUS(state) != 0) {
        const int status = WEXITSTATUS(state);
        fail(status, status == kCannotStart
                         ? fmt::format("{} could not be started: '{}'", who(rank), plan_.command.front())
                         : fmt::format("{} ended with status {}; the others are told to end", who(rank), status));
      }
    }
  }

  void send_to_all(int signal) {
    for (Rank& rank : ranks_) {
      if (!rank.running) continue;
      rank.control >= 0 ? say(rank, signal_name(signal)) : static_cast<void>(::kill(-rank.pid, signal));
    }
  }
  void ask_to_end(int signal) {
    send_to_all(signal);
    if (!ending_) begin_to_end();
  }
  void begin_to_end() {
    kill_at_ = Clock::now() + std::chrono::milliseconds(plan_.grace_ms);
    ending_ = true;
  }
  void end_now() {
    for (Rank& rank : ranks_) {
      if (rank.running) ::kill(-rank.pid, SIGKILL);
      // A process that left its group may hold the pipe for ever: it is not ours any more.
      for (Stream& stream : rank.streams) close_stream(stream, rank);
    }
    kill_at_ = Clock::now() + std::chrono::milliseconds(plan_.grace_ms);
  }

  void relay(size_t rank, Stream& stream) {
    char piece[1 << 14];
    const ssize_t count = ::read(stream.from, piece, sizeof piece);
    if (count < 0 && (errno == EINTR || errno == EAGAIN)) return;
    if (count <= 0) return close_stream(stream, ranks_[rank]);
    stream.line.append(piece, static_cast<size_t>(count));
    size_t begin = 0;
    std::string out;
    for (size_t end; (end = stream.line.find('\n', begin)) != std::string::npos; begin = end + 1)
      out += fmt::format("[{}] {}\n", rank, stream.line.substr(begin, end - begin));
    stream.line.erase(0, begin);
    write_all(stream.to, out);
  }
  void close_stream(Stream& stream, const Rank& owner) {
    if (stream.from < 0) return;
    ::close(std::exchange(stream.from, -1));
    const auto rank = &owner - ranks_.data();
    if (!stream.line.empty()) write_all(stream.to, fmt::format("[{}] {}\n", rank, std::exchange(stream.line, {})));
  }
  static void write_all(int to, const std::string& text) {
    for (size_t done = 0; done < text.size();) {
      const ssize_t count = ::write(to, text.data() + done, text.size() - done);
      if (count < 0 && errno == EINTR) continue;
      if (count <= 0) return;
      done += static_cast<size_t>(count);
    }
  }

  const RunPlan& plan_;
  std::vector<Rank> ranks_;
  sigset_t original_mask_{};
  int signals_ = -1;
  int status_ = 0;
  bool ending_ = false;
  Clock::time_point kill_at_{};
};

}  // namespace

std::string quoted_for_shell(const std::string& word) {
  std::string quoted = "'";
  for (const char c : word) quoted += c == '\'' ? "'\\''" : std::string(1, c);
  return quoted + "'";
}

std::vector<RankPlan> place_ranks(const std::string& hosts, int ranks, std::string& why) {
  struct Host {
    std::string name;
    int ranks = -1;
  };
  std::vector<Host> list;
  int given = 0, open = 0;
  for (size_t at = 0; at <= hosts.size();) {
    const size_t end = std::min(hosts.find(',', at), hosts.size());
    Host host{hosts.substr(at, end - at)};
    at = end + 1;
    if (const size_t colon = host.name.rfind(':'); colon != std::string::npos) {
      const char* const last = host.name.data() + host.name.size();
      const auto [stop, failure] = std::from_chars(host.name.data() + colon + 1, last, host.ranks);
      if (failure != std::errc() || stop != last || host.ranks < 1) {
        why = fmt::format("'{}' does not parse: expected host or host:ranks", host.name);
        return {};
      }
      host.name.resize(colon);
    }
    if (host.name.empty()) {
      why = fmt::format("'{}' does not parse: expected a comma list of hosts", hosts);
      return {};
    }
    host.ranks < 0 ? ++open : given += host.ranks;
    list.push_back(host);
  }
  const int left = ranks - given;
  if (left < open || (open == 0 && left != 0)) {
    why = fmt::format("{} ranks do not fit '{}'", ranks, hosts);
    return {};
  }
  std::vector<RankPlan> plan;
  int placed = 0;
  for (Host& host : list) {
    if (host.ranks < 0) {
      host.ranks = left / open + (placed < left % open ? 1 : 0);
      ++placed;
    }
    for (int local = 0; local < host.ranks; ++local) plan.push_back({host.name, local, host.ranks});
  }
  return plan;
}

int run_ranks(const RunPlan& plan) { return Launcher(plan).run(); }

}  // namespace tutti::tool
