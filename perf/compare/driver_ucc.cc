// SPDX-License-Identifier: Apache-2.0
//
// The UCC driver: persistent requests, the cheapest way UCC offers. Starts its own ranks. Built only where an
// installation of UCC is named (UCC_PREFIX); Debian 12 has none.
#include <ucc/api/ucc.h>

#include <array>

#include "perf/compare/harness.h"

namespace tutti::compare {
namespace {

void require(Control& control, ucc_status_t status, const char* call) {
  if (status < 0) control.fail(std::string(call) + ": " + ucc_status_string(status));
}

// UCC asks its host program for an all-gather to find its peers. Ours completes at once.
ucc_oob_coll_t out_of_band(Control& control) {
  ucc_oob_coll_t oob{};
  oob.allgather = [](void* send, void* recv, size_t bytes, void* control_pointer, void** request) {
    static_cast<Control*>(control_pointer)->all_gather(send, recv, bytes);
    *request = control_pointer;
    return UCC_OK;
  };
  oob.req_test = [](void*) { return UCC_OK; };
  oob.req_free = [](void*) { return UCC_OK; };
  oob.coll_info = &control;
  oob.n_oob_eps = control.ranks();
  oob.oob_ep = control.rank();
  return oob;
}

class UccPeer : public OrdinaryPeer {
 public:
  explicit UccPeer(Control& control) : control_(control) {
    ucc_lib_config_h lib_config;
    ucc_lib_params_t lib_params{};
    lib_params.mask = UCC_LIB_PARAM_FIELD_THREAD_MODE;
    lib_params.thread_mode = UCC_THREAD_SINGLE;
    require(control, ucc_lib_config_read(nullptr, nullptr, &lib_config), "ucc_lib_config_read");
    require(control, ucc_init(&lib_params, lib_config, &lib_), "ucc_init");
    ucc_lib_config_release(lib_config);

    ucc_context_config_h context_config;
    ucc_context_params_t context_params{};
    context_params.mask = UCC_CONTEXT_PARAM_FIELD_OOB;
    context_params.oob = out_of_band(control);
    require(control, ucc_context_config_read(lib_, nullptr, &context_config), "ucc_context_config_read");
    require(control, ucc_context_create(lib_, &context_params, context_config, &context_), "ucc_context_create");
    ucc_context_config_release(context_config);

    ucc_team_params_t team_params{};
    team_params.mask = UCC_TEAM_PARAM_FIELD_EP | UCC_TEAM_PARAM_FIELD_EP_RANGE | UCC_TEAM_PARAM_FIELD_OOB;
    team_params.ep = control.rank();
    team_params.ep_range = UCC_COLLECTIVE_EP_RANGE_CONTIG;
    team_params.oob = out_of_band(control);
    require(control, ucc_team_create_post(&context_, 1, &team_params, &team_), "ucc_team_create_post");
    ucc_status_t status;
    while ((status = ucc_team_create_test(team_)) == UCC_INPROGRESS) progress();
    require(control, status, "ucc_team_create_test");
  }

  void progress() { ucc_context_progress(context_); }
  std::string version() { return std::string("UCC ") + ucc_get_version_string(); }

  template <class Run>
  std::string with_operation(Problem& p, const std::string&, float* send, float* recv, Run& run) {
    static constexpr std::pair<Collective, ucc_coll_type_t> kTypes[] = {
        {Collective::AllReduce, UCC_COLL_TYPE_ALLREDUCE},
        {Collective::AllGather, UCC_COLL_TYPE_ALLGATHER},
        {Collective::ReduceScatter, UCC_COLL_TYPE_REDUCE_SCATTER},
        {Collective::Broadcast, UCC_COLL_TYPE_BCAST},
        {Collective::AllToAll, UCC_COLL_TYPE_ALLTOALL},
        {Collective::Reduce, UCC_COLL_TYPE_REDUCE},
        {Collective::Gather, UCC_COLL_TYPE_GATHER},
        {Collective::Scatter, UCC_COLL_TYPE_SCATTER},
    };
    const auto row =
        std::find_if(std::begin(kTypes), std::end(kTypes), [&](auto& r) { return r.first == p.collective; });
    if (row == std::end(kTypes)) return "UCC has no point-to-point calls";
    const auto buffer = [](float* memory, size_t count) {
      return ucc_coll_buffer_info_t{memory, count, UCC_DT_FLOAT32, UCC_MEMORY_TYPE_HOST};
    };
    ucc_coll_args_t args{};
    args.mask = UCC_COLL_ARGS_FIELD_FLAGS;
    args.flags = UCC_COLL_ARGS_FLAG_PERSISTENT;
    args.coll_type = row->second;
    args.op = UCC_OP_SUM;
    args.root = 0;
    args.src.info = buffer(send, p.send_count);
    args.dst.info = buffer(recv, p.recv_count);
    if (p.collective == Collective::Broadcast) args.src.info = buffer(recv, p.recv_count);
    ucc_coll_req_h request;
    const ucc_status_t status = ucc_collective_init(&args, &request, team_);
    if (status == UCC_ERR_NOT_SUPPORTED || status == UCC_ERR_NOT_IMPLEMENTED) return ucc_status_string(status);
    require(control_, status, "ucc_collective_init");
    const std::string reason = run([&, crowded = control_.crowded()] {
      if (ucc_collective_post(request) != UCC_OK) return 1;
      ucc_status_t now;
      for (int polls = 0; (now = ucc_collective_test(request)) == UCC_INPROGRESS; ++polls) {
        progress();
        if (crowded && polls >= kPollsBeforeYield) sched_yield();
      }
      return now == UCC_OK ? 0 : 1;
    });
    ucc_collective_finalize(request);
    return reason;
  }

 private:
  static constexpr int kPollsBeforeYield = 8;  // UCC leaves the waiting to its caller
  Control& control_;
  ucc_lib_h lib_ = nullptr;
  ucc_context_h context_ = nullptr;
  ucc_team_h team_ = nullptr;
};

}  // namespace
}  // namespace tutti::compare

int main(int argc, char** argv) {
  using namespace tutti::compare;
  const Options options = parse_options(argc, argv);
  return run_forked(options.ranks, options.pin, options.hosts, [&](Control& control) {
    UccPeer peer(control);
    control.set_progress([&] { peer.progress(); });
    run_cells(peer, control, options);
    return 0;
  });
}
