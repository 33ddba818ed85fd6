// SPDX-License-Identifier: Apache-2.0
// The parent of --ranks: start, relay, watch, end. One thread, one poll loop; signals arrive through a descriptor.
#include "perf/launcher.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <thread>

#include "perf/outcome.h"
#include "perf/pinning.h"

namespace tutti::perf {
namespace {

struct Child {
  pid_t pid = -1;
  int socket = -1;
  std::vector<char> inbox;
  bool running = false;
};

class Launcher {
 public:
  explicit Launcher(const LaunchPlan& plan) : plan_(plan), children_(static_cast<size_t>(plan.processes)) {}
  ~Launcher() {
    for (Child& child : children_) close_socket(child);
    if (signals_ >= 0) ::close(signals_);
  }

  int run() {
    sigset_t watched;
    sigemptyset(&watched);
    for (const int signal : {SIGCHLD, SIGINT, SIGTERM, SIGHUP}) sigaddset(&watched, signal);
    ::sigprocmask(SIG_BLOCK, &watched, &original_mask_);
    signals_ = ::signalfd(-1, &watched, SFD_CLOEXEC | SFD_NONBLOCK);
    if (signals_ < 0) return fail("signalfd: " + std::string(std::strerror(errno)));
    for (int process = 0; status_ == kExitOk && process < plan_.processes; ++process) start(process);
    while (status_ == kExitOk && running() > 0) wait_and_serve();
    end_all();
    ::sigprocmask(SIG_SETMASK, &original_mask_, nullptr);
    return status_ == kExitOk ? agreed_ : status_;
  }

 private:
  int fail(const std::string& message, int status = kExitFailed) {
    std::fprintf(plan_.messages, "%s: %s\n", plan_.name.c_str(), message.c_str());
    std::fflush(plan_.messages);
    return status_ = status;
  }

  static void close_socket(Child& child) {
    if (child.socket >= 0) ::close(child.socket);
    child.socket = -1;
  }

  long running() const {
    return std::count_if(children_.begin(), children_.end(), [](const Child& child) { return child.running; });
  }

  void start(int process) {
    int ends[2];
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
      fail("socketpair: " + std::string(std::strerror(errno)));
      return;
    }
    // Everything that allocates happens before the fork.
    char job[64];
    std::snprintf(job, sizeof job, "%s=%d/%d/%d", kLocalJobVariable, process, plan_.processes, ends[1]);
    std::vector<char*> environment;
    for (char** variable = environ; *variable != nullptr; ++variable) environment.push_back(*variable);
    environment.push_back(job);
    environment.push_back(nullptr);
    std::vector<char*> arguments;
    for (const std::string& argument : plan_.arguments) arguments.push_back(const_cast<char*>(argument.c_str()));
    arguments.push_back(nullptr);

    const pid_t parent = ::getpid();
    const pid_t pid = ::fork();
    if (pid == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      if (::getppid() != parent) ::_exit(kExitFailed);  // the parent died before the line above
      ::sigprocmask(SIG_SETMASK, &original_mask_, nullptr);
      ::fcntl(ends[1], F_SETFD, 0);
      if (!plan_.cpus.empty()) pin_to(plan_.cpus[static_cast<size_t>(process)]);
      ::execve(plan_.executable.c_str(), arguments.data(), environment.data());
      ::_exit(127);
    }
    ::close(ends[1]);
    Child& child = children_[static_cast<size_t>(process)];
    child.socket = ends[0];
    child.pid = pid;
    child.running = pid > 0;
    if (pid < 0) fail("fork: " + std::string(std::strerror(errno)));
  }

  void wait_and_serve() {
    std::vector<pollfd> wanted = {{signals_, POLLIN, 0}};
    std::vector<Child*> owner = {nullptr};
    for (Child& child : children_) {
      if (child.socket < 0) continue;
      wanted.push_back({child.socket, POLLIN, 0});
      owner.push_back(&child);
    }
    if (::poll(wanted.data(), wanted.size(), -1) < 0) return;  // interrupted: look again
    if (wanted[0].revents != 0) read_signals();
    for (size_t i = 1; i < wanted.size(); ++i) {
      if (wanted[i].revents != 0) receive(*owner[i]);
    }
    relay();
  }

  void read_signals() {
    signalfd_siginfo info;
    while (::read(signals_, &info, sizeof info) == sizeof info) {
      const auto signal = static_cast<int>(info.ssi_signo);
      if (signal != SIGCHLD) fail("interrupted by signal " + std::to_string(signal), 128 + signal);
    }
    reap();
  }

  void reap() {
    for (int process = 0; process < plan_.processes; ++process) {
      Child& child = children_[static_cast<size_t>(process)];
      int state = 0;
      if (!child.running || ::waitpid(child.pid, &state, WNOHANG) != child.pid) continue;
      child.running = false;
      judge(process, child.pid, state);
    }
  }

  void judge(int process, pid_t pid, int state) {
    if (ending_) return;  // ended by us
    const std::string who = "rank process " + std::to_string(process) + " of " + std::to_string(plan_.processes) +
                            " (pid " + std::to_string(pid) + ")";
    if (WIFSIGNALED(state)) {
      const int signal = WTERMSIG(state);
      fail(who + " was killed by signal " + std::to_string(signal) + " (" + ::strsignal(signal) + ")");
      return;
    }
    const int status = WEXITSTATUS(state);
    // Wrong values and bad options are agreed upon by all ranks and told by rank 0: let everybody end by itself.
    agreed_ = std::max(agreed_, std::min(status, static_cast<int>(kExitUsage)));
    if (status <= kExitUsage) return;
    fail(who + (status == 127 ? " could not be started" : " failed with exit status " + std::to_string(status)));
  }

  static void receive(Child& child) {
    char buffer[1 << 16];
    const ssize_t bytes = ::recv(child.socket, buffer, sizeof buffer, MSG_DONTWAIT);
    if (bytes > 0) child.inbox.insert(child.inbox.end(), buffer, buffer + bytes);
    if (bytes == 0 || (bytes < 0 && errno != EAGAIN && errno != EINTR)) close_socket(child);  // its status follows
  }

  // When the frame of the slowest child is complete, everybody gets all of them.
  void relay() {
    FrameHeader header{};
    for (const Child& child : children_) {
      if (child.inbox.size() < sizeof header) return;
      FrameHeader mine{};
      std::memcpy(&mine, child.inbox.data(), sizeof mine);
      if (&child != &children_[0] && mine.bytes != header.bytes) {
        fail("the ranks exchange frames of different sizes");
        return;
      }
      header = mine;
      if (child.inbox.size() < sizeof header + header.bytes) return;
    }
    std::vector<char> all;
    for (Child& child : children_) {
      const auto begin = child.inbox.begin() + sizeof header;
      const auto end = begin + static_cast<std::ptrdiff_t>(header.bytes);
      all.insert(all.end(), begin, end);
      child.inbox.erase(child.inbox.begin(), end);
    }
    for (const Child& child : children_) {
      for (size_t done = 0; child.socket >= 0 && done < all.size();) {
        const ssize_t sent = ::send(child.socket, all.data() + done, all.size() - done, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR) continue;
        if (sent <= 0) break;  // it is gone; SIGCHLD tells
        done += static_cast<size_t>(sent);
      }
    }
  }

  void end_all() {
    ending_ = true;
    const auto signal_all = [&](int signal) {
      for (const Child& child : children_) {
        if (child.running) ::kill(child.pid, signal);
      }
    };
    signal_all(SIGTERM);
    for (int waited = 0; running() > 0 && waited < plan_.grace_ms; waited += 10) {
      reap();
      if (running() > 0) std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    signal_all(SIGKILL);
    while (running() > 0) {
      reap();
      if (running() > 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }

  const LaunchPlan& plan_;
  std::vector<Child> children_;
  sigset_t original_mask_{};
  int signals_ = -1;
  int status_ = kExitOk;
  int agreed_ = kExitOk;
  bool ending_ = false;
};

}  // namespace

int launch(const LaunchPlan& plan) { return Launcher(plan).run(); }

}  // namespace tutti::perf
