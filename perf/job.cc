// SPDX-License-Identifier: Apache-2.0
// The three kinds of job.
#include "perf/job.h"

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <initializer_list>
#include <string>

#include "perf/library.h"
#include "perf/launcher.h"

namespace tutti::perf {
namespace {

class Alone : public Job {
 public:
  Outcome all_gather(const void* mine, size_t bytes, void* all) override {
    std::memcpy(all, mine, bytes);
    return {};
  }
};

// A child of --ranks: the parent relays (see launcher.h).
class LocalJob : public Job {
 public:
  LocalJob(int process, int processes, int socket) : socket_(socket) {
    process_ = process;
    processes_ = processes;
  }
  ~LocalJob() override { ::close(socket_); }

  Outcome all_gather(const void* mine, size_t bytes, void* all) override {
    const FrameHeader header{bytes};
    const bool done = send_all(reinterpret_cast<const char*>(&header), sizeof header) &&
                      send_all(static_cast<const char*>(mine), bytes) &&
                      recv_all(static_cast<char*>(all), bytes * static_cast<size_t>(processes_));
    return done ? Outcome() : Outcome::failure("the parent process is gone");
  }

 private:
  bool send_all(const char* data, size_t bytes) {
    while (bytes > 0) {
      const ssize_t done = ::send(socket_, data, bytes, MSG_NOSIGNAL);
      if (done < 0 && errno == EINTR) continue;
      if (done <= 0) return false;
      data += done;
      bytes -= static_cast<size_t>(done);
    }
    return true;
  }
  bool recv_all(char* data, size_t bytes) {
    while (bytes > 0) {
      const ssize_t done = ::recv(socket_, data, bytes, 0);
      if (done < 0 && errno == EINTR) continue;
      if (done <= 0) return false;
      data += done;
      bytes -= static_cast<size_t>(done);
    }
    return true;
  }
  int socket_;
};

// A launcher's job: the library joins, and its communicator carries what we exchange.
class EnvironmentJob : public Job {
 public:
  ~EnvironmentJob() override {
    if (comm_ != nullptr) (void)tuttiCommDestroy(comm_);
  }
  Outcome join() {
    const Outcome joined = Library::own().checked(tuttiCommInitEnv(&comm_, nullptr), "CommInitEnv", comm_);
    if (!joined.ok()) return joined;
    const Outcome ranked = Library::own().checked(tuttiCommRank(comm_, &process_), "CommRank", comm_);
    return ranked.ok() ? Library::own().checked(tuttiCommCount(comm_, &processes_), "CommCount", comm_) : ranked;
  }
  Outcome all_gather(const void* mine, size_t bytes, void* all) override {
    return Library::own().checked(tuttiAllGather(mine, all, bytes, TUTTI_UINT8, comm_, nullptr), "AllGather", comm_);
  }
  tuttiComm_t communicator() const override { return comm_; }

 private:
  tuttiComm_t comm_ = nullptr;
};

// One of these sets is there: see tuttiCommInitEnv.
bool launched() {
  const auto all = [](std::initializer_list<const char*> names) {
    return std::all_of(names.begin(), names.end(), [](const char* name) { return std::getenv(name) != nullptr; });
  };
  return all({"RANK", "WORLD_SIZE"}) || all({"PMIX_NAMESPACE", "PMIX_RANK"}) || all({"PMI_FD", "PMI_RANK"}) ||
         all({"SLURM_STEP_ID", "SLURM_PROCID"});
}

}  // namespace

Outcome join_job(std::unique_ptr<Job>* job) {
  if (const char* local = std::getenv(kLocalJobVariable)) {
    int process = 0, processes = 0, socket = 0;
    if (std::sscanf(local, "%d/%d/%d", &process, &processes, &socket) != 3) {
      return Outcome::failure(std::string(kLocalJobVariable) + " is set by --ranks only; unset it", kExitUsage);
    }
    ::unsetenv(kLocalJobVariable);
    *job = std::make_unique<LocalJob>(process, processes, socket);
    return {};
  }
  if (launched()) {
    auto environment = std::make_unique<EnvironmentJob>();
    const Outcome joined = environment->join();
    *job = std::move(environment);
    return joined;
  }
  *job = std::make_unique<Alone>();
  return {};
}

}  // namespace tutti::perf
