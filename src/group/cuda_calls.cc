// SPDX-License-Identifier: Apache-2.0
#include "group/cuda_calls.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <utility>

#include "group/group.h"

namespace tutti {
namespace {

// What went wrong behind the caller's back is the communicator's failure: nobody else could tell it.
Status told(CudaTeam& team, const Communicator& comm, const Status& status) {
  if (!status.ok() && !comm.failed()) team.stop(status);
  return status;
}

// Waits for what this thread has brought, in the workers of its communicators.
void wait_in_workers(CudaCalls of, const std::shared_ptr<CudaSubmission>& brought) {
  for (size_t i = 0; i < of.workers.size(); ++i) {
    of.workers[i]->enqueue([team = of.team, comm = of.comms[i], brought] {  // the communicator keeps its team
      return told(*team, *comm, team->wait(*brought));
    });
  }
}

// Calls that go together, brought by the last of their workers that comes so far. A communicator that has failed is
// not waited for, as its worker may be in something that ends much later.
class Joint {
 public:
  explicit Joint(CudaCalls calls) : calls_(std::move(calls)), missing_(calls_.workers.size()) {}

  Status carry(const Communicator& comm) {
    const Status brought = meet(comm);
    return told(*calls_.team, comm, brought.ok() ? calls_.team->wait(*submission_) : brought);
  }

 private:
  Status meet(const Communicator& comm) {
    constexpr auto kLookEvery = std::chrono::milliseconds(20);
    std::unique_lock lock(mutex_);
    if (--missing_ == 0) {
      status_ = bring();
      done_ = true;
      met_.notify_all();
    }
    while (!done_) {
      if (comm.failed()) return comm.failure();
      met_.wait_for(lock, kLookEvery);
    }
    return status_;
  }
  Status bring() {
    for (const auto& one : calls_.comms) {
      if (one->failed()) return one->failure();
    }
    TUTTI_ASSIGN_OR_RETURN(submission_, calls_.team->enqueue(std::move(calls_.calls)));
    return {};
  }

  CudaCalls calls_;
  std::mutex mutex_;
  std::condition_variable met_;
  size_t missing_;
  bool done_ = false;
  Status status_;
  std::shared_ptr<CudaSubmission> submission_;
};

void bring_in_workers(CudaCalls calls) {
  const std::vector<std::shared_ptr<Stream>> workers = calls.workers;
  const std::vector<std::shared_ptr<Communicator>> comms = calls.comms;
  const auto joint = std::make_shared<Joint>(std::move(calls));
  for (size_t i = 0; i < workers.size(); ++i) {
    workers[i]->enqueue([joint, comm = comms[i]] { return joint->carry(*comm); });
  }
}

bool idle(const CudaCalls& calls) {
  return std::all_of(calls.workers.begin(), calls.workers.end(), [](const auto& worker) { return worker->idle(); });
}

}  // namespace

void CudaCalls::add(std::shared_ptr<Communicator> comm, const std::shared_ptr<Stream>& worker,
                    gpu::CudaStreamHandle stream, Request request) {
  calls.push_back({comm->rank(), stream, std::move(request)});
  waits_here |= worker == nullptr || reinterpret_cast<uintptr_t>(stream) == gpu::kCudaPerThreadStream;
  if (std::find(comms.begin(), comms.end(), comm) != comms.end()) return;
  comms.push_back(std::move(comm));
  if (worker != nullptr) workers.push_back(worker);
}

Status launch_cuda_calls(std::vector<CudaCalls> calls) {
  struct Brought {
    CudaCalls of;
    std::shared_ptr<CudaSubmission> submission;
  };
  std::vector<Brought> brought;
  Status first;
  bool queued = false;
  for (CudaCalls& one : calls) {
    if (!one.waits_here && (one.team->launching_waits() || !idle(one))) {
      bring_in_workers(std::move(one));
      queued = true;
      continue;
    }
    for (const auto& worker : one.workers) (void)worker->synchronize().ok();  // failures are the communicator's
    Result<std::shared_ptr<CudaSubmission>> submission = one.team->enqueue(std::move(one.calls));
    if (submission.ok()) brought.push_back({std::move(one), std::move(*submission)});
    if (first.ok()) first = submission.status();
  }
  for (Brought& one : brought) {
    if (one.of.waits_here || one.of.team->is_launched(*one.submission)) {
      const Status launched = one.of.team->wait(*one.submission);
      if (first.ok()) first = launched;
    } else {
      wait_in_workers(std::move(one.of), one.submission);
      queued = true;
    }
  }
  TUTTI_TRY(first);
  return queued ? in_progress() : Status();
}

}  // namespace tutti
