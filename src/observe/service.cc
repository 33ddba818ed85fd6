// SPDX-License-Identifier: Apache-2.0
// See service.h.
#include "observe/service.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <vector>

#include "base/deadline.h"
#include "base/env.h"
#include "base/handle.h"
#include "base/log.h"
#include "observe/observed.h"

namespace tutti {
namespace {

constexpr size_t kStackBytes = 256 << 10;

// ---- the signal ----

std::atomic<int> g_signal_fd{-1};  // rung by the handler; as long as the process once the signal is wanted
struct sigaction g_before;         // what handled the signal before us

// Only what is async-signal-safe: ring, then hand on to who was there before. The service writes the dump.
void on_signal(int number, siginfo_t* info, void* context) {
  const int saved_errno = errno;
  const uint64_t one = 1;
  if (const int fd = g_signal_fd.load(std::memory_order_relaxed); fd >= 0) (void)!::write(fd, &one, sizeof one);
  errno = saved_errno;
  if ((g_before.sa_flags & SA_SIGINFO) != 0) {
    g_before.sa_sigaction(number, info, context);
  } else if (g_before.sa_handler != SIG_DFL && g_before.sa_handler != SIG_IGN) {
    g_before.sa_handler(number);
  }
}

// Once per process: restoring it would take away whatever was installed after us.
Status prepare_signal() {
  if (g_signal_fd.load(std::memory_order_relaxed) >= 0) return {};
  const Result<int> number = parse_signal(env().dump_signal);
  TUTTI_TRY(number);
  if (*number == 0) return {};
  UniqueFd bell(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!bell) return errno_status("eventfd", "the dump signal");
  static bool installed = false;  // a child of fork() inherits the handler
  if (!installed) {
    struct sigaction action {};
    action.sa_sigaction = on_signal;
    action.sa_flags = SA_SIGINFO | SA_RESTART;
    sigemptyset(&action.sa_mask);
    if (::sigaction(*number, nullptr, &g_before) != 0 || ::sigaction(*number, &action, nullptr) != 0)
      return errno_status("sigaction", fmt::format("TUTTI_DUMP_SIGNAL={}", env().dump_signal));
    installed = true;
  }
  g_signal_fd.store(bell.release(), std::memory_order_relaxed);
  return {};
}

// ---- the socket ----

Result<UniqueFd> listen_for_callers() {
  uint32_t random = 0;
  (void)!::getrandom(&random, sizeof random, GRND_NONBLOCK);
  const std::string name = fmt::format("{}{}-{}-{:08x}", kStatusSocketPrefix, ::geteuid(), ::getpid(), random);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path + 1, name.data(), name.size());  // sun_path[0] == 0: abstract
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
  UniqueFd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!listener) return errno_status("socket", "the status service");
  if (::bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), size) != 0 ||
      ::listen(listener.get(), static_cast<int>(kMostCallers)) != 0)
    return errno_status("bind", "the status service");
  return listener;
}

bool same_user(int socket) {
  ucred peer{};
  socklen_t size = sizeof peer;
  return ::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && peer.uid == ::geteuid();
}

struct Caller {
  UniqueFd socket;
  Deadline deadline;
  std::string request;
  std::string answer;  // empty until the request is there
  size_t sent = 0;
};

// True while there is something left to do for this caller.
bool advance(Caller& caller) {
  if (caller.deadline.passed()) return false;
  while (caller.answer.empty()) {
    char bytes[kMostRequestBytes];
    const ssize_t got = ::recv(caller.socket.get(), bytes, sizeof bytes, MSG_DONTWAIT);
    if (got < 0) return errno == EAGAIN || errno == EINTR;
    if (got == 0) return false;
    caller.request.append(bytes, static_cast<size_t>(got));
    const StatusRequest request = parse_status_request(caller.request);
    if (request == StatusRequest::Malformed) return false;
    if (request == StatusRequest::Status) caller.answer = status_document();
  }
  while (caller.sent < caller.answer.size()) {
    const ssize_t put = ::send(caller.socket.get(), caller.answer.data() + caller.sent,
                               caller.answer.size() - caller.sent, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (put < 0) return errno == EAGAIN || errno == EINTR;
    caller.sent += static_cast<size_t>(put);
  }
  return false;
}

// ---- the thread ----

struct Service {
  pthread_t thread{};
  UniqueFd stop;  // an eventfd
  UniqueFd listener;
};
Service* g_service = nullptr;

void* serve(void* argument) {
  const Service& service = *static_cast<Service*>(argument);
  pthread_setname_np(pthread_self(), "tutti-status");
  std::vector<Caller> callers;
  std::vector<pollfd> items;
  for (;;) {
    // A negative descriptor is passed over by poll(2): no listener, no signal, too many callers.
    const bool full = callers.size() >= kMostCallers;
    items.assign({{service.stop.get(), POLLIN, 0},
                  {g_signal_fd.load(std::memory_order_relaxed), POLLIN, 0},
                  {full ? -1 : service.listener.get(), POLLIN, 0}});
    int timeout_ms = -1;
    for (const Caller& caller : callers) {
      items.push_back({caller.socket.get(), static_cast<short>(caller.answer.empty() ? POLLIN : POLLOUT), 0});
      timeout_ms = caller.deadline.poll_ms(timeout_ms < 0 ? static_cast<int>(kPatienceMs) : timeout_ms);
    }
    if (::poll(items.data(), items.size(), timeout_ms) < 0 && errno != EINTR) return nullptr;
    if ((items[0].revents & POLLIN) != 0) return nullptr;
    if ((items[1].revents & POLLIN) != 0) {
      uint64_t rung = 0;
      (void)!::read(items[1].fd, &rung, sizeof rung);
      if (!env().dump_file.empty()) write_all_dumps(DumpReason::Signal, env().dump_file);
    }
    std::erase_if(callers, [](Caller& caller) { return !advance(caller); });
    if ((items[2].revents & POLLIN) == 0) continue;
    UniqueFd socket(::accept4(service.listener.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (socket && same_user(socket.get()))
      callers.push_back({std::move(socket), Deadline::in_ms(kPatienceMs), {}, {}, 0});
  }
}

Status start(Service& service) {
  TUTTI_TRY(prepare_signal());
  service.stop.reset(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!service.stop) return errno_status("eventfd", "the status service");
  if (Result<UniqueFd> listener = listen_for_callers(); listener.ok()) {
    service.listener = std::move(*listener);
  } else {
    log_warn(Subsystem::Health, "`tutti status` will not see this process: {}", listener.status().message());
    if (g_signal_fd.load(std::memory_order_relaxed) < 0) return {};  // nothing to do for a thread
  }
  pthread_attr_t attributes;
  if (pthread_attr_init(&attributes) != 0) return system_error("pthread_attr_init failed: out of memory");
  (void)pthread_attr_setstacksize(&attributes, kStackBytes);
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);  // the thread inherits it: signals stay the application's
  const int failure = pthread_create(&service.thread, &attributes, serve, &service);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  pthread_attr_destroy(&attributes);
  if (failure == 0) return {};
  service.thread = {};
  errno = failure;
  return errno_status("pthread_create", "the status service");
}

// The child of a fork has the descriptors but not the thread. The parent's socket must not seem alive in it, and its
// handler must not ring the parent's bell.
void forget_in_child() {
  if (g_service != nullptr) {
    g_service->stop.reset();
    g_service->listener.reset();
    g_service = nullptr;  // its few bytes stay: no allocator may be called here
  }
  if (const int fd = g_signal_fd.exchange(-1, std::memory_order_relaxed); fd >= 0) ::close(fd);
}

}  // namespace

StatusRequest parse_status_request(std::string_view bytes) {
  const std::string_view expected = kStatusRequest.substr(0, bytes.size());
  if (bytes.substr(0, kStatusRequest.size()) != expected || bytes.size() > kMostRequestBytes)
    return StatusRequest::Malformed;
  return bytes.size() >= kStatusRequest.size() ? StatusRequest::Status : StatusRequest::Incomplete;
}

Result<int> parse_signal(std::string_view text) {
  if (text.empty()) return 0;
  struct Row {
    std::string_view name;
    int number;
  };
  // Those that a program does not need for something else and that do not stop it.
  static constexpr Row kSignals[] = {{"USR1", SIGUSR1}, {"USR2", SIGUSR2},   {"HUP", SIGHUP},
                                     {"URG", SIGURG},   {"WINCH", SIGWINCH}, {"CONT", SIGCONT}};
  std::string_view word = text;
  if (word.starts_with("SIG")) word.remove_prefix(3);
  for (const Row& row : kSignals) {
    if (word == row.name || word == fmt::format("{}", row.number)) return row.number;
  }
  for (int number = SIGRTMIN; number <= SIGRTMAX; ++number) {
    if (word == fmt::format("{}", number)) return number;
  }
  return invalid_argument(
      "TUTTI_DUMP_SIGNAL={}: use USR1, USR2, HUP, URG, WINCH, CONT or the number of a real-time signal ({} to {})",
      text, SIGRTMIN, SIGRTMAX);
}

void start_service() {
  static const int once = pthread_atfork(nullptr, nullptr, forget_in_child);
  (void)once;
  auto* service = new Service;
  g_service = service;
  if (const Status started = start(*service); !started.ok()) {
    log_warn(Subsystem::Health, "this process answers neither `tutti status` nor a dump signal: {}", started.message());
  }
}

void stop_service() {
  Service* service = std::exchange(g_service, nullptr);
  if (service == nullptr) return;
  if (service->thread != pthread_t{}) {
    const uint64_t one = 1;
    (void)!::write(service->stop.get(), &one, sizeof one);
    pthread_join(service->thread, nullptr);
  }
  delete service;
}

}  // namespace tutti
