// SPDX-License-Identifier: Apache-2.0
#include "group/group.h"

#include <pthread.h>

#include <algorithm>
#include <iterator>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/thread.h"
#include "comm/short_messages.h"
#include "group/batch.h"
#include "group/cuda_calls.h"

namespace tutti {
namespace {

struct Entry {
  std::shared_ptr<Communicator> comm;
  std::shared_ptr<Stream> stream;
  Request request;
  void* cuda_stream = nullptr;  // of a communicator on a CUDA device; `stream` is its worker, null: it is blocking
};
struct GroupState {
  Status poison;
  std::vector<Entry> entries;
  std::vector<SetUp> set_ups;
  ShortMessages short_messages;  // instead of entries, as long as the group has nothing else
  Batch batch;                   // of a group that this thread carries, kept for its memory
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

using Chain = std::vector<SetUp>;
Status run_chain(Chain& chain) {
  Status first;
  for (SetUp& one : chain) {
    Status status = one.run();
    if (first.ok()) first = std::move(status);
  }
  return first;
}

// Queues those of workers, then runs the others at once, one thread for each communicator, and waits for them.
Status run_set_ups(std::vector<SetUp> set_ups) {
  std::vector<Chain> chains;
  bool queued = false;
  for (SetUp& one : set_ups) {
    if (one.worker != nullptr) {
      one.worker->enqueue(std::move(one.run));
      queued = true;
      continue;
    }
    Chain* same = nullptr;
    for (Chain& chain : chains) {
      if (one.over != nullptr && chain.front().over == one.over) same = &chain;
    }
    if (same == nullptr) same = &chains.emplace_back();
    same->push_back(std::move(one));
  }
  std::vector<Status> results(chains.size());
  std::vector<std::thread> threads;
  Status started;
  for (size_t i = 0; i + 1 < chains.size() && started.ok(); ++i) {
    auto thread = start_thread("tutti-set-up", "a thread for each rank of this process",
                               [&, i] { results[i] = run_chain(chains[i]); });
    started = thread.status();
    if (thread.ok()) threads.push_back(std::move(*thread));
  }
  if (started.ok() && !chains.empty()) results.back() = run_chain(chains.back());
  for (std::thread& thread : threads) thread.join();
  if (!started.ok()) {
    for (size_t i = threads.size(); i < chains.size(); ++i) {
      for (SetUp& one : chains[i]) one.drop();
    }
  }
  TUTTI_TRY(started);
  for (const Status& result : results) TUTTI_TRY(result);
  return queued ? in_progress() : Status();
}

Status launch_cuda(std::vector<Entry> entries) {
  std::vector<CudaCalls> calls;
  for (Entry& entry : entries) {
    if (entry.comm->failed()) return entry.comm->failure();
    CudaTeam* const team = entry.comm->cuda();
    auto found = std::find_if(calls.begin(), calls.end(), [&](const CudaCalls& one) { return one.team == team; });
    if (found == calls.end()) {
      calls.push_back(CudaCalls{team});
      found = calls.end() - 1;
    }
    entry.request.queued = ticks();
    found->add(std::move(entry.comm), entry.stream, static_cast<gpu::CudaStreamHandle>(entry.cuda_stream),
               std::move(entry.request));
  }
  return launch_cuda_calls(std::move(calls));
}

// Batches by stream, in order of first use. The blocking one last: streams must be running before this thread waits.
struct Submission {
  std::shared_ptr<Stream> stream;
  std::shared_ptr<Batch> batch = std::make_shared<Batch>();
  std::vector<std::shared_ptr<Communicator>> comms;  // alive until the batch has run
};

Status launch(std::vector<Entry> entries) {
  bool queued = false;
  const auto on_cpu = [](const Entry& entry) { return entry.comm->cuda() == nullptr; };
  const auto cuda = std::stable_partition(entries.begin(), entries.end(), on_cpu);
  if (cuda != entries.end()) {
    std::vector<Entry> there(std::make_move_iterator(cuda), std::make_move_iterator(entries.end()));
    entries.erase(cuda, entries.end());
    const Status launched = launch_cuda(std::move(there));
    queued = launched.code() == Code::InProgress;
    if (!queued) TUTTI_TRY(launched);
  }
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
      queued |= one.stream->internal();
      one.stream->enqueue([batch = one.batch, comms = std::move(one.comms)] { return batch->run(); });
    }
  }
  if (here != nullptr) TUTTI_TRY(here->run());
  return queued ? in_progress() : Status();
}

// The calls of the group so far as entries, where they were none.
void demote_messages(GroupState& state) {
  if (state.short_messages.empty()) return;
  state.short_messages.give_back([&state](const std::shared_ptr<Communicator>& comm, Request request) {
    state.entries.push_back({comm, nullptr, std::move(request), nullptr});
  });
}

// Nothing but calls that this thread carries on the CPU: the group of a program without streams.
bool only_calls_here(const GroupState& state) {
  return state.set_ups.empty() && state.poison.ok() &&
         std::all_of(state.entries.begin(), state.entries.end(),
                     [](const Entry& one) { return one.stream == nullptr && one.comm->cuda() == nullptr; });
}

Status run_here(GroupState& state) {
  std::vector<Entry> entries;
  entries.swap(state.entries);
  state.batch.clear();
  for (Entry& entry : entries) state.batch.add(*entry.comm, std::move(entry.request));
  Status status = state.batch.check();
  if (status.ok()) {
    state.batch.issue();
    status = state.batch.run();
  }
  entries.clear();  // the communicators have lived until now
  entries.swap(state.entries);
  return status;
}

Status run_group(GroupState& state, std::vector<Entry> entries) {
  std::vector<SetUp> set_ups = std::exchange(state.set_ups, {});
  if (const Status poison = std::exchange(state.poison, Status()); !poison.ok()) {
    for (SetUp& one : set_ups) one.drop();
    return poison;
  }
  const auto ends = std::stable_partition(set_ups.begin(), set_ups.end(), [](const SetUp& one) { return !one.last; });
  std::vector<SetUp> last(std::make_move_iterator(ends), std::make_move_iterator(set_ups.end()));
  set_ups.erase(ends, set_ups.end());
  // What follows a failure is not started, as if the calls had been made one by one and each checked.
  Status result = run_set_ups(std::move(set_ups));
  if (result.ok() || result.code() == Code::InProgress) {
    const Status launched = entries.empty() ? Status() : launch(std::move(entries));
    if (!launched.ok()) result = launched;
  }
  if (result.ok() || result.code() == Code::InProgress) {
    const Status ended = run_set_ups(std::move(last));
    if (!ended.ok()) result = ended;
  } else {
    for (SetUp& one : last) one.drop();
  }
  return result;
}

}  // namespace

constinit thread_local int t_group_depth = 0;

void group_start() { ++t_group_depth; }

void poison_group(const Status& status) {
  if (in_group() && group().poison.ok()) group().poison = status;
}

Status group_end() {
  if (t_group_depth == 0)
    return invalid_usage("tuttiGroupEnd: no group is open in this thread: call tuttiGroupStart first");
  if (--t_group_depth > 0) return {};
  GroupState& state = group();
  const bool only_messages = !state.short_messages.empty() && state.set_ups.empty() && state.poison.ok();
  if (only_messages && state.short_messages.still_fit()) return state.short_messages.run();
  demote_messages(state);
  if (only_calls_here(state)) return run_here(state);
  return run_group(state, std::exchange(state.entries, {}));
}

Result<double> group_simulate_end() {
  GroupState& state = group();
  if (t_group_depth == 0)
    return invalid_usage("tuttiGroupSimulateEnd: no group is open in this thread: call tuttiGroupStart first");
  if (--t_group_depth > 0) return 0.0;
  demote_messages(state);
  const std::vector<Entry> entries = std::exchange(state.entries, {});
  std::vector<SetUp> set_ups = std::exchange(state.set_ups, {});
  Status poison = std::exchange(state.poison, Status());
  if (poison.ok() && !set_ups.empty()) {
    poison = invalid_usage(
        "tuttiGroupSimulateEnd: the group makes or ends communicators: only operations have a predicted time");
  }
  for (SetUp& one : set_ups) one.drop();
  TUTTI_TRY(poison);
  std::unordered_map<const Communicator*, double> times;
  double longest = 0;
  for (const Entry& entry : entries) {
    TUTTI_ASSIGN_OR_RETURN(const double predicted, entry.comm->predict(entry.request));
    longest = std::max(longest, times[entry.comm.get()] += predicted);
  }
  return longest;
}

bool submit_short_message(const std::shared_ptr<Communicator>& comm, const CallKind& kind, uint64_t bytes, void* buffer,
                          Status& status) {
  GroupState& state = group();
  if (!state.entries.empty() || !state.short_messages.add(comm, kind, bytes, buffer)) return false;
  if (!in_group()) status = state.short_messages.run();
  return true;
}

Status submit(const std::shared_ptr<Communicator>& comm, const std::shared_ptr<Stream>& stream, Request request) {
  if (in_group()) {
    demote_messages(group());
    group().entries.push_back({comm, stream, std::move(request), nullptr});
    return {};
  }
  const bool to_self = request.point_to_point() && request.root == comm->rank();
  if (stream == nullptr && !to_self) return comm->run(request);
  std::vector<Entry> lone;
  lone.push_back({comm, stream, std::move(request), nullptr});
  return launch(std::move(lone));
}

Status submit_cuda(const std::shared_ptr<Communicator>& comm, void* stream, std::shared_ptr<Stream> worker,
                   Request request) {
  Entry entry{comm, std::move(worker), std::move(request), stream};
  if (in_group()) {
    demote_messages(group());
    group().entries.push_back(std::move(entry));
    return {};
  }
  std::vector<Entry> lone;
  lone.push_back(std::move(entry));
  return launch_cuda(std::move(lone));
}

Status submit_set_up(SetUp set_up) {
  if (!in_group()) {
    std::vector<SetUp> lone;
    lone.push_back(std::move(set_up));
    return run_set_ups(std::move(lone));
  }
  group().set_ups.push_back(std::move(set_up));
  return {};
}

Status in_progress() {
  static const Status& status =
      *new Status(Code::InProgress, "in progress: tuttiCommGetAsyncError tells when it is done");
  return status;
}

}  // namespace tutti
