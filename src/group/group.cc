// SPDX-License-Identifier: Apache-2.0
#include "group/group.h"

#include <pthread.h>

#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "group/batch.h"

namespace tutti {
namespace {

struct Entry {
  std::shared_ptr<Communicator> comm;
  std::shared_ptr<Stream> stream;
  Request request;
};
struct GroupState {
  Status poison;
  std::vector<Entry> entries;
  std::vector<std::function<Status()>> inits;
};

// One pointer of static TLS; the state itself is freed by the key's destructor when its thread ends.
thread_local GroupState* t_group __attribute__((tls_model("initial-exec"))) = nullptr;

GroupState& group() {
  if (t_group == nullptr) {
    static const pthread_key_t key = [] {
      pthread_key_t made{};
      pthread_key_create(&made, [](void* state) { delete static_cast<GroupState*>(state); });
      return made;
    }();
    t_group = new GroupState;
    pthread_setspecific(key, t_group);
  }
  return *t_group;
}

// Runs all jobs at once, one thread each, and waits for all.
Status run_inits(std::vector<std::function<Status()>> jobs) {
  if (jobs.size() == 1) return jobs[0]();
  std::vector<Status> results(jobs.size());
  std::vector<std::thread> threads;
  Status started;
  for (size_t i = 0; i < jobs.size() && started.ok(); ++i) {
    try {
      threads.emplace_back([&, i] { results[i] = jobs[i](); });
    } catch (const std::system_error& failure) {
      started = system_error("cannot start a thread for each of {} ranks: {}; raise the limit on processes (ulimit -u)",
                             jobs.size(), failure.what());
    }
  }
  for (std::thread& thread : threads) thread.join();
  TUTTI_TRY(started);
  for (const Status& result : results) TUTTI_TRY(result);
  return {};
}

// Batches by stream, in order of first use. The blocking one last: streams must be running before this thread waits.
struct Submission {
  std::shared_ptr<Stream> stream;
  std::shared_ptr<Batch> batch = std::make_shared<Batch>();
  std::vector<std::shared_ptr<Communicator>> comms;  // alive until the batch has run
};

Status launch(std::vector<Entry> entries) {
  std::vector<Submission> submissions;
  for (Entry& entry : entries) {
    Submission* found = nullptr;
    for (Submission& one : submissions) {
      if (one.stream == entry.stream) found = &one;
    }
    if (found == nullptr) {
      submissions.push_back({entry.stream, std::make_shared<Batch>(), {}});
      found = &submissions.back();
    }
    found->batch->add(*entry.comm, std::move(entry.request));
    found->comms.push_back(std::move(entry.comm));
  }
  for (Submission& one : submissions) TUTTI_TRY(one.batch->check());
  for (Submission& one : submissions) one.batch->issue();
  Batch* here = nullptr;
  for (Submission& one : submissions) {
    if (one.stream == nullptr) {
      here = one.batch.get();
    } else {
      one.stream->enqueue([batch = one.batch, comms = std::move(one.comms)] { return batch->run(); });
    }
  }
  return here != nullptr ? here->run() : Status();
}

}  // namespace

thread_local int t_group_depth = 0;

void group_start() { ++t_group_depth; }

void poison_group(const Status& status) {
  if (in_group() && group().poison.ok()) group().poison = status;
}

Status group_end() {
  if (t_group_depth == 0)
    return invalid_usage("tuttiGroupEnd: no group is open in this thread: call tuttiGroupStart first");
  if (--t_group_depth > 0) return {};
  GroupState& state = group();
  std::vector<Entry> entries = std::exchange(state.entries, {});
  std::vector<std::function<Status()>> inits = std::exchange(state.inits, {});
  TUTTI_TRY(std::exchange(state.poison, Status()));
  if (!inits.empty()) TUTTI_TRY(run_inits(std::move(inits)));
  return entries.empty() ? Status() : launch(std::move(entries));
}

Status submit(const std::shared_ptr<Communicator>& comm, const std::shared_ptr<Stream>& stream, Request request) {
  if (in_group()) {
    group().entries.push_back({comm, stream, std::move(request)});
    return {};
  }
  const bool to_self = request.point_to_point() && request.root == comm->rank();
  if (stream == nullptr && !to_self) return comm->run(request);
  std::vector<Entry> lone;
  lone.push_back({comm, stream, std::move(request)});
  return launch(std::move(lone));
}

Status submit_init(std::function<Status()> job) {
  if (!in_group()) return job();
  group().inits.push_back(std::move(job));
  return {};
}

}  // namespace tutti
