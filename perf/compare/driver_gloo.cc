// SPDX-License-Identifier: Apache-2.0
//
// The Gloo driver: TCP, over the loopback interface or between hosts (Gloo has no shared memory transport). Starts its
// own ranks.
#include <gloo/allgather.h>
#include <gloo/allreduce.h>
#include <gloo/alltoall.h>
#include <gloo/broadcast.h>
#include <gloo/config.h>
#include <gloo/gather.h>
#include <gloo/math.h>
#include <gloo/reduce.h>
#include <gloo/reduce_scatter.h>
#include <gloo/rendezvous/context.h>
#include <gloo/rendezvous/file_store.h>
#include <gloo/scatter.h>
#include <gloo/transport/tcp/device.h>

#include <exception>
#include <filesystem>

#include "perf/compare/harness.h"

namespace tutti::compare {
namespace {

void sum_floats(void* out, const void* a, const void* b, size_t count) { gloo::sum<float>(out, a, b, count); }

class GlooPeer : public OrdinaryPeer {
 public:
  GlooPeer(const Control& control, const Options& options, const std::string& store_folder) {
    gloo::transport::tcp::attr where;
    if (options.hosts.empty())
      where.hostname = "127.0.0.1";
    else
      where.iface = "eth0";
    std::shared_ptr<gloo::transport::Device> device = gloo::transport::tcp::CreateDevice(where);
    gloo::rendezvous::FileStore store(store_folder);
    auto context = std::make_shared<gloo::rendezvous::Context>(control.rank(), control.ranks());
    context->setTimeout(std::chrono::seconds(60));
    context->connectFullMesh(store, device);
    context_ = context;
  }

  std::string version() {
    char text[32];
    std::snprintf(text, sizeof text, "Gloo %d.%d.%d", GLOO_VERSION_MAJOR, GLOO_VERSION_MINOR, GLOO_VERSION_PATCH);
    return text;
  }

  // Its reduce-scatter works in place and does not wait for its last send to leave the buffer.
  bool returns_early() { return true; }

  template <class Run>
  std::string with_operation(Problem& p, const std::string&, float* send, float* recv, Run& run) {
    const size_t whole = p.bytes / sizeof(float);
    switch (p.collective) {
      case Collective::AllReduce: {
        gloo::AllreduceOptions o(context_);
        o.setInput(send, whole);
        o.setOutput(recv, whole);
        o.setReduceFunction(sum_floats);
        return run([&] { return gloo::allreduce(o), 0; });
      }
      case Collective::AllGather: {
        gloo::AllgatherOptions o(context_);
        o.setInput(send, p.send_count);
        o.setOutput(recv, p.recv_count);
        return run([&] { return gloo::allgather(o), 0; });
      }
      case Collective::ReduceScatter: {
        if (p.ranks == 1) return "in place only: nothing is done for one rank";
        p.input_in_recv = true;
        gloo::ReduceScatterHalvingDoubling<float> algorithm(context_, {recv}, static_cast<int>(p.send_count),
                                                            std::vector<int>(p.ranks, static_cast<int>(p.chunk)));
        return run([&] { return algorithm.run(), 0; });
      }
      case Collective::Broadcast: {
        gloo::BroadcastOptions o(context_);
        o.setOutput(recv, whole);
        o.setRoot(0);
        return run([&] { return gloo::broadcast(o), 0; });
      }
      case Collective::AllToAll: {
        gloo::AlltoallOptions o(context_);
        o.setInput(send, p.send_count);
        o.setOutput(recv, p.recv_count);
        return run([&] { return gloo::alltoall(o), 0; });
      }
      case Collective::Reduce: {
        gloo::ReduceOptions o(context_);
        o.setInput(send, whole);
        o.setOutput(recv, whole);
        o.setRoot(0);
        o.setReduceFunction(sum_floats);
        return run([&] { return gloo::reduce(o), 0; });
      }
      case Collective::Gather: {
        gloo::GatherOptions o(context_);
        o.setInput(send, p.send_count);
        if (p.is_root()) o.setOutput(recv, p.recv_count);
        o.setRoot(0);
        return run([&] { return gloo::gather(o), 0; });
      }
      case Collective::Scatter: {
        gloo::ScatterOptions o(context_);
        std::vector<float*> shares;
        for (int r = 0; p.is_root() && r < p.ranks; ++r) shares.push_back(send + r * p.chunk);
        if (p.is_root()) o.setInputs(shares, p.chunk);
        o.setOutput(recv, p.chunk);
        o.setRoot(0);
        return run([&] { return gloo::scatter(o), 0; });
      }
      case Collective::SendRecv: {
        if (p.ranks == 1) return "a rank cannot send to itself";
        auto out = context_->createUnboundBuffer(send, whole * sizeof(float));
        auto in = context_->createUnboundBuffer(recv, whole * sizeof(float));
        return run([&] {
          in->recv(p.previous(), kSendRecvSlot);
          out->send(p.next(), kSendRecvSlot);
          return in->waitRecv() && out->waitSend() ? 0 : 1;
        });
      }
    }
    return "unknown collective";
  }

 private:
  static constexpr uint64_t kSendRecvSlot = 7;  // any number that the collectives' tags (0) do not use
  std::shared_ptr<gloo::Context> context_;
};

int main_of_rank(Control& control, const Options& options, const std::string& store_folder) {
  try {
    GlooPeer peer(control, options, store_folder);
    run_cells(peer, control, options);
    return 0;
  } catch (const std::exception& error) {
    control.fail(error.what());
  }
}

}  // namespace
}  // namespace tutti::compare

int main(int argc, char** argv) {
  using namespace tutti::compare;
  const Options options = parse_options(argc, argv);
  std::string folder = options.scratch + "/compare-gloo-XXXXXX";
  if (mkdtemp(folder.data()) == nullptr) {
    std::perror(folder.c_str());
    return 1;
  }
  const int status = run_forked(options.ranks, options.pin, options.hosts,
                                [&](Control& control) { return main_of_rank(control, options, folder); });
  std::filesystem::remove_all(folder);
  return status;
}
