// SPDX-License-Identifier: Apache-2.0
// Making, asking and ending communicators (docs/lifecycle.md).
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <utility>
#include <vector>

#include "api/checks.h"
#include "api/entry.h"
#include "api/handles.h"
#include "base/env.h"
#include "bootstrap/launch.h"
#include "bootstrap/rendezvous.h"
#include "bootstrap/unique_id.h"
#include "plan/plan.h"

using namespace tutti;

namespace {

static_assert(sizeof(tuttiUniqueId) == kUniqueIdBytes);

// The caller's configuration; what its header did not have, or it left open, is as in `base`.
struct Wanted {
  CommOptions options;
  bool blocking = true;
};
Result<Wanted> read_config(const char* function, const tuttiConfig_t* config, Wanted base = {}) {
  if (config == nullptr) return base;
  TUTTI_TRY(check_config(function, config));
  tuttiConfig_t full = TUTTI_CONFIG_INITIALIZER;
  std::memcpy(&full, config, std::min(config->size, sizeof full));
  if (full.blocking != TUTTI_UNDEFINED_INT) base.blocking = full.blocking != 0;
  if (full.device >= 0) base.options.device = full.device;
  if (full.minChannels != TUTTI_UNDEFINED_INT) base.options.min_channels = full.minChannels;
  if (full.maxChannels != TUTTI_UNDEFINED_INT) base.options.max_channels = full.maxChannels;
  if (full.netName != nullptr) base.options.transports = full.netName;
  if (full.algorithms != nullptr) base.options.algorithms = full.algorithms;
  if (full.protocols != nullptr) base.options.protocols = full.protocols;
  if (full.nics != nullptr) base.options.nics = full.nics;
  if (full.commName != nullptr) base.options.name = full.commName;
  return base;
}

// A child is as its parent, but for its name.
Wanted as_parent(tuttiComm_t parent, const Communicator& comm) {
  Wanted wanted{comm.options(), parent->worker == nullptr};
  wanted.options.name.clear();
  return wanted;
}

Status check_child_device(const char* function, const Wanted& wanted, const Communicator& parent) {
  if (wanted.options.device == parent.device()) return {};
  return invalid_usage("{}: config->device is {}, but the rank's device is {}: a rank keeps its device", function,
                       wanted.options.device, parent.device());
}

using Made = Result<std::unique_ptr<Communicator>>;

// Makes a communicator now, at the end of the group this thread is in, or in the background: there is a handle from the
// start, and `make` yields what it stands for when it is time. `made_on` carries it out; null: this thread.
Status make_comm(tuttiComm_t* out, tuttiComm_t handle, const Communicator* over, std::shared_ptr<Stream> made_on,
                 std::function<Made()> make) {
  const bool background = made_on != nullptr;
  const bool own = handle->made_by_worker;
  const auto give_up = [out, handle, background, own](const Status& why) {
    // Blocking: nothing is left that could be used or would have to be destroyed.
    if (!background) *out = nullptr;
    const bool mine = background ? !fail_comm_handle(handle, why) && !own : true;
    if (mine) retire_comm_handle(handle);
  };
  *out = handle;
  SetUp set_up;
  set_up.over = over;
  set_up.worker = std::move(made_on);
  set_up.run = [handle, own, give_up, make = std::move(make)]() -> Status {
    Made made = make();
    if (!made.ok()) {
      give_up(made.status());
      return made.status();
    }
    if (complete_comm_handle(handle, std::move(*made))) return {};
    const Status aborted = invalid_usage("the communicator was aborted while it was made");
    give_up(aborted);
    return aborted;
  };
  set_up.drop = [give_up] { give_up(invalid_usage("the group in which the communicator was to be made had failed")); };
  return submit_set_up(std::move(set_up));
}

// Joins by a rendezvous. `where` yields the JoinOptions when it is time.
template <class Where>
Status join_comm(tuttiComm_t* comm, int nranks, int rank, const Wanted& wanted, Where where) {
  std::shared_ptr<Stream> worker;
  if (!wanted.blocking) {
    TUTTI_ASSIGN_OR_RETURN(worker, Stream::create(true));
  }
  tuttiComm_t handle = new_comm_handle(rank, nranks, worker, !wanted.blocking);
  CommOptions options = wanted.options;
  options.cancelled = handle->cancelled;
  return make_comm(comm, handle, nullptr, worker, [options = std::move(options), where]() -> Made {
    TUTTI_ASSIGN_OR_RETURN(JoinOptions place, where());
    return Communicator::join(std::move(place), options);
  });
}

// A child of `parent`, made over the parent's means: in the background if the parent is non-blocking.
using MakeChild = std::function<Made(Communicator& parent, const CommOptions& options)>;
Status make_child(const std::shared_ptr<Communicator>& parent, tuttiComm_t parent_handle, tuttiComm_t* newcomm,
                  const Wanted& wanted, MakeChild make) {
  std::shared_ptr<Stream> worker;
  if (!wanted.blocking) {
    TUTTI_ASSIGN_OR_RETURN(worker, Stream::create(true));
  }
  tuttiComm_t handle = new_comm_handle(-1, 0, worker, false);
  return make_comm(newcomm, handle, parent.get(), parent_handle->worker,
                   [parent, options = wanted.options, make = std::move(make)] { return make(*parent, options); });
}

Status init_rank(const char* function, tuttiComm_t* comm, int nranks, const tuttiUniqueId& id, int rank,
                 const tuttiConfig_t* config) {
  if (comm != nullptr) *comm = nullptr;
  TUTTI_TRY(check_init(function, comm, nranks, rank));
  TUTTI_ASSIGN_OR_RETURN(const Wanted wanted, read_config(function, config));
  TUTTI_ASSIGN_OR_RETURN(const UniqueId decoded,
                         decode_unique_id(std::span<const char, kUniqueIdBytes>(id.internal, kUniqueIdBytes)));
  return join_comm(comm, nranks, rank, wanted,
                   [=]() -> Result<JoinOptions> { return JoinOptions::with(decoded, nranks, rank); });
}

}  // namespace

extern "C" {

tuttiResult_t tuttiGetUniqueId(tuttiUniqueId* id) {
  const char* const function = __func__;
  return entry(function, [&]() -> Status {
    TUTTI_TRY(check_not_null(function, "id", id, "the address of a tuttiUniqueId"));
    TUTTI_TRY(env_status());
    TUTTI_ASSIGN_OR_RETURN(const UniqueId made, start_rendezvous());
    const std::array<char, kUniqueIdBytes> bytes = encode_unique_id(made);
    std::memcpy(id->internal, bytes.data(), bytes.size());
    return {};
  });
}

tuttiResult_t tuttiCommInitRank(tuttiComm_t* comm, int nranks, tuttiUniqueId id, int rank) {
  const char* const function = __func__;
  return entry(function, [&] { return init_rank(function, comm, nranks, id, rank, nullptr); });
}

tuttiResult_t tuttiCommInitRankConfig(tuttiComm_t* comm, int nranks, tuttiUniqueId id, int rank,
                                      const tuttiConfig_t* config) {
  const char* const function = __func__;
  return entry(function, [&] { return init_rank(function, comm, nranks, id, rank, config); });
}

tuttiResult_t tuttiCommInitEnv(tuttiComm_t* comm, const tuttiConfig_t* config) {
  const char* const function = __func__;
  return entry(function, [&]() -> Status {
    TUTTI_TRY(check_not_null(function, "comm", comm, "the address of a tuttiComm_t"));
    *comm = nullptr;
    TUTTI_ASSIGN_OR_RETURN(const Wanted wanted, read_config(function, config));
    TUTTI_TRY(env_status());
    TUTTI_ASSIGN_OR_RETURN(const Launch launch, Launch::find(environment_variable));
    return join_comm(comm, launch.ranks, launch.rank, wanted, [launch]() -> Result<JoinOptions> {
      return rendezvous_at(launch, launch_secret(launch, env().job_secret));
    });
  });
}

tuttiResult_t tuttiCommInitAddress(tuttiComm_t* comm, int nranks, const char* address, int rank,
                                   const tuttiConfig_t* config) {
  const char* const function = __func__;
  return entry(function, [&]() -> Status {
    if (comm != nullptr) *comm = nullptr;
    TUTTI_TRY(check_init(function, comm, nranks, rank));
    TUTTI_TRY(check_not_null(function, "address", address, "host:port"));
    TUTTI_ASSIGN_OR_RETURN(const Wanted wanted, read_config(function, config));
    TUTTI_TRY(env_status());
    TUTTI_ASSIGN_OR_RETURN(const Launch launch, Launch::at(address, nranks, rank));
    return join_comm(comm, nranks, rank, wanted, [launch]() -> Result<JoinOptions> {
      return rendezvous_at(launch, launch_secret(launch, env().job_secret));
    });
  });
}

tuttiResult_t tuttiCommInitAll(tuttiComm_t* comms, int ndev, const int* devices) {
  const char* const function = __func__;
  return entry(function, [&]() -> Status {
    TUTTI_TRY(check_not_null(function, "comms", comms, "room for ndev handles"));
    if (ndev < 1) return invalid_argument("{}: ndev is {}: pass the number of ranks, at least 1", function, ndev);
    std::fill(comms, comms + ndev, nullptr);
    for (int i = 0; devices != nullptr && i < ndev; ++i) {
      if (devices[i] < TUTTI_DEVICE_CPU)
        return invalid_argument("{}: devices[{}] is {}: pass CUDA ordinals from 0 on, or TUTTI_DEVICE_CPU", function, i,
                                devices[i]);
    }
    tuttiUniqueId id;
    TUTTI_TRY(env_status());
    TUTTI_ASSIGN_OR_RETURN(const UniqueId made, start_rendezvous());
    const std::array<char, kUniqueIdBytes> bytes = encode_unique_id(made);
    std::memcpy(id.internal, bytes.data(), bytes.size());
    // One group, so that the ranks join side by side; inside an open group they do so at the outermost end.
    group_start();
    Status status;
    for (int i = 0; i < ndev && status.ok(); ++i) {
      tuttiConfig_t config = TUTTI_CONFIG_INITIALIZER;
      if (devices != nullptr) config.device = devices[i];
      status = init_rank(function, &comms[i], ndev, id, i, &config);
    }
    poison_group(status);
    const Status ended = group_end();
    return status.ok() ? ended : status;
  });
}

tuttiResult_t tuttiCommDestroy(tuttiComm_t comm) {
  const char* const function = __func__;
  return entry(function, [&]() -> Status {
    if (comm == nullptr) return {};
    TUTTI_TRY(comm_condition(function, comm));  // something that can be destroyed
    if (in_group()) return invalid_usage("{}: not inside a group: call it after tuttiGroupEnd", function);
    await_made(comm);
    if (comm->worker != nullptr) (void)comm->worker->synchronize().ok();  // failures are the communicator's
    if (const Result<std::shared_ptr<Communicator>> held = hold_comm(function, comm, true); held.ok()) (*held)->drain();
    TUTTI_TRY(take_comm_handle(function, comm));
    await_outside(comm);
    retire_comm_handle(comm);
    return {};
  });
}

tuttiResult_t tuttiCommAbort(tuttiComm_t comm) {
  const char* const function = __func__;
  return entry(function, [&]() -> Status {
    if (comm == nullptr) return {};
    TUTTI_ASSIGN_OR_RETURN(const TakenComm taken, take_comm_handle(function, comm));
    if (taken.joining && !comm->made_by_worker) return {};  // who makes it gives up, and ends the handle
    if (taken.comm != nullptr) taken.comm->abort();
    if (taken.worker != nullptr) (void)taken.worker->synchronize().ok();
    await_outside(comm);
    if (taken.comm != nullptr) taken.comm->settle();
    retire_comm_handle(comm);
    return {};
  });
}

tuttiResult_t tuttiCommFinalize(tuttiComm_t comm) {
  const char* const function = __func__;
  return entry(function, [&]() -> Status {
    TUTTI_ASSIGN_OR_RETURN(const std::shared_ptr<Communicator> held, hold_comm(function, comm));
    if (held->failed()) return held->failure();
    if (!change_comm_state(comm, tuttiComm::State::Live, tuttiComm::State::Finalized))
      return explain_comm_handle(function, comm);
    SetUp set_up;
    set_up.over = held.get();
    set_up.worker = comm->worker;
    set_up.last = true;
    set_up.run = [held] { return held->finalize(); };
    set_up.drop = [comm] { change_comm_state(comm, tuttiComm::State::Finalized, tuttiComm::State::Live); };
    return submit_set_up(std::move(set_up));
  });
}

tuttiResult_t tuttiCommSplit(tuttiComm_t comm, int color, int key, tuttiComm_t* newcomm, const tuttiConfig_t* config) {
  const char* const function = __func__;
  return entry(function, [&]() -> Status {
    TUTTI_ASSIGN_OR_RETURN(const std::shared_ptr<Communicator> parent, hold_comm(function, comm));
    TUTTI_TRY(check_not_null(function, "newcomm", newcomm, "the address of a tuttiComm_t"));
    if (color < 0 && color != TUTTI_SPLIT_NOCOLOR)
      return invalid_argument("{}: color is {}: pass 0 or more, or TUTTI_SPLIT_NOCOLOR", function, color);
    TUTTI_ASSIGN_OR_RETURN(const Wanted wanted, read_config(function, config, as_parent(comm, *parent)));
    TUTTI_TRY(check_child_device(function, wanted, *parent));
    if (parent->failed()) return parent->failure();
    if (color >= 0) {
      return make_child(parent, comm, newcomm, wanted, [color, key](Communicator& from, const CommOptions& options) {
        return Communicator::split(from, color, key, options);
      });
    }
    *newcomm = nullptr;
    SetUp set_up;
    set_up.over = parent.get();
    set_up.worker = comm->worker;
    set_up.run = [parent, key, options = wanted.options] {
      return Communicator::split(*parent, TUTTI_SPLIT_NOCOLOR, key, options).status();
    };
    set_up.drop = [] {};
    return submit_set_up(std::move(set_up));
  });
}

tuttiResult_t tuttiCommShrink(tuttiComm_t comm, const int* excludeRanks, int excludeCount, tuttiComm_t* newcomm,
                              const tuttiConfig_t* config, int shrinkFlags) {
  const char* const function = __func__;
  return entry(function, [&]() -> Status {
    TUTTI_ASSIGN_OR_RETURN(const std::shared_ptr<Communicator> parent, hold_comm(function, comm));
    TUTTI_TRY(check_not_null(function, "newcomm", newcomm, "the address of a tuttiComm_t"));
    TUTTI_TRY(check_shrink(function, excludeRanks, excludeCount, parent->rank(), parent->size(), shrinkFlags));
    TUTTI_ASSIGN_OR_RETURN(const Wanted wanted, read_config(function, config, as_parent(comm, *parent)));
    TUTTI_TRY(check_child_device(function, wanted, *parent));
    const bool after_failure = shrinkFlags == TUTTI_SHRINK_ABORT;
    if (!after_failure && parent->failed()) return parent->failure();
    std::vector<int> excluded(excludeRanks, excludeRanks + excludeCount);
    std::sort(excluded.begin(), excluded.end());
    excluded.erase(std::unique(excluded.begin(), excluded.end()), excluded.end());
    if (after_failure) parent->fail(invalid_usage("{}: its ranks have shrunk it away", parent->name()));
    return make_child(parent, comm, newcomm, wanted,
                      [excluded = std::move(excluded)](Communicator& from, const CommOptions& options) {
                        from.drain();
                        return Communicator::shrink(from, excluded, options);
                      });
  });
}

tuttiResult_t tuttiCommGetAsyncError(tuttiComm_t comm, tuttiResult_t* asyncError) {
  const char* const function = __func__;
  return entry(function, [&]() -> Status {
    TUTTI_ASSIGN_OR_RETURN(const Condition condition, comm_condition(function, comm));
    TUTTI_TRY(check_not_null(function, "asyncError", asyncError, "the address of a tuttiResult_t"));
    *asyncError = static_cast<tuttiResult_t>(condition.status.code());
    return {};
  });
}

tuttiResult_t tuttiCommCount(tuttiComm_t comm, int* count) {
  const char* const function = __func__;
  return entry(function, [&]() -> Status {
    TUTTI_ASSIGN_OR_RETURN(const std::shared_ptr<Communicator> held, hold_comm(function, comm, true));
    TUTTI_TRY(check_not_null(function, "count", count, "the address of an int"));
    *count = held->size();
    return {};
  });
}

tuttiResult_t tuttiCommRank(tuttiComm_t comm, int* rank) {
  const char* const function = __func__;
  return entry(function, [&]() -> Status {
    TUTTI_ASSIGN_OR_RETURN(const std::shared_ptr<Communicator> held, hold_comm(function, comm, true));
    TUTTI_TRY(check_not_null(function, "rank", rank, "the address of an int"));
    *rank = held->rank();
    return {};
  });
}

tuttiResult_t tuttiCommDevice(tuttiComm_t comm, int* device) {
  const char* const function = __func__;
  return entry(function, [&]() -> Status {
    TUTTI_ASSIGN_OR_RETURN(const std::shared_ptr<Communicator> held, hold_comm(function, comm, true));
    TUTTI_TRY(check_not_null(function, "device", device, "the address of an int"));
    *device = held->device();
    return {};
  });
}

tuttiResult_t tuttiExplain(tuttiComm_t comm, const char* collective, size_t count, tuttiDataType_t type, char* text,
                           size_t textBytes) {
  const char* const function = __func__;
  return entry(function, [&]() -> Status {
    TUTTI_ASSIGN_OR_RETURN(const std::shared_ptr<Communicator> held, hold_comm(function, comm));
    TUTTI_TRY(check_not_null(function, "collective", collective, "a name such as all_reduce"));
    TUTTI_TRY(check_not_null(function, "text", text, "a buffer of textBytes bytes"));
    if (textBytes == 0) return invalid_argument("{}: textBytes is 0: pass the length of text", function);
    TUTTI_TRY(checks::check_type(function, static_cast<uint32_t>(type)));
    const Coll* coll = find_coll(collective);
    if (coll == nullptr) {
      return invalid_argument("{}: collective is '{}': use one of {}", function, collective,
                              fmt::join(kCollNames, ", "));
    }
    const Shape shape{*coll, count * element_size(static_cast<DataType>(type)), false};
    TUTTI_ASSIGN_OR_RETURN(const std::string explained, explain_plan(held->summary_in_windows(), shape));
    const size_t kept = std::min(explained.size(), textBytes - 1);
    std::memcpy(text, explained.data(), kept);
    text[kept] = '\0';
    return {};
  });
}

}  // extern "C"
