// SPDX-License-Identifier: Apache-2.0
#include "tests/transports/rdma_stage.h"

#include <cstdlib>

#include "tests/transports/tcp_stage.h"

namespace tutti::test {
namespace {

std::string variable(const char* name, const char* fallback) {
  const char* const set = std::getenv(name);
  return set != nullptr ? set : fallback;
}

// The transport and the listener that must outlive it.
class RdmaPlayer final : public Transport {
 public:
  RdmaPlayer(std::unique_ptr<PeerListener> listener, std::unique_ptr<Transport> transport)
      : listener_(std::move(listener)), rdma_(std::move(transport)) {}
  std::string_view name() const override { return rdma_->name(); }
  bool reaches(int peer) const override { return rdma_->reaches(peer); }
  bool mapped() const override { return rdma_->mapped(); }
  const TransportLimits& limits() const override { return rdma_->limits(); }
  Result<SendEnd*> send_end(int peer, int channel, Use use) override { return rdma_->send_end(peer, channel, use); }
  Result<ReceiveEnd*> receive_end(int peer, int channel, Use use) override {
    return rdma_->receive_end(peer, channel, use);
  }
  uint64_t wants_gpu_slots(int peer, Flow flow) const override { return rdma_->wants_gpu_slots(peer, flow); }
  Result<SendEnd*> send_end_on_gpu(int peer, int channel, Use use, std::shared_ptr<GpuSlots> slots) override {
    return rdma_->send_end_on_gpu(peer, channel, use, std::move(slots));
  }
  Result<ReceiveEnd*> receive_end_on_gpu(int peer, int channel, Use use, std::shared_ptr<GpuSlots> slots) override {
    return rdma_->receive_end_on_gpu(peer, channel, use, std::move(slots));
  }
  Result<SendEnd*> fan_send_end(int channel) override { return rdma_->fan_send_end(channel); }
  Result<ReceiveEnd*> fan_receive_end(int peer, int channel) override { return rdma_->fan_receive_end(peer, channel); }
  Result<bool> progress() override { return rdma_->progress(); }
  bool flushed() const override { return rdma_->flushed(); }
  void wait(int timeout_ms) override { rdma_->wait(timeout_ms); }

 private:
  std::unique_ptr<PeerListener> listener_;
  std::unique_ptr<Transport> rdma_;
};

}  // namespace

bool on_real_devices() { return std::getenv("RDMA_TEST_LIBRARY") != nullptr; }

RdmaSettings rdma_settings() {
  RdmaSettings settings;
  settings.verbs_library = variable("RDMA_TEST_LIBRARY", FAKE_RDMA);
  settings.devices = variable("RDMA_TEST_HCA", on_real_devices() ? "" : "fake0,fake1");
  return settings;
}

Result<RdmaSetup> meet_over_rdma(Player& player, const std::vector<int>& members, const std::string& seed,
                                 const RdmaSettings& settings) {
  RdmaSetup setup;
  RdmaOptions& options = setup.options;
  TUTTI_ASSIGN_OR_RETURN(TcpSetup tcp, meet_over_tcp(player, members, seed));
  setup.listener = std::move(tcp.listener);
  options.secret = tcp.options.secret;
  options.tag = tcp.options.tag;
  options.me = tcp.options.me;
  options.listener = setup.listener.get();
  options.connect_timeout_ms = tcp.options.connect_timeout_ms;
  options.settings = settings;
  TUTTI_ASSIGN_OR_RETURN(options.devices, open_rdma_devices(settings));
  const Bytes mine = encode_ports(rdma_ports(*options.devices));
  const std::vector<std::string> all = player.gather({reinterpret_cast<const char*>(mine.data()), mine.size()});
  options.peers.resize(tcp.options.peers.size());
  for (size_t i = 0; i < members.size(); ++i) {
    const auto rank = static_cast<size_t>(members[i]);
    options.peers[rank] = {tcp.options.peers[rank], {}};
    TUTTI_ASSIGN_OR_RETURN(options.peers[rank].ports, decode_ports(std::as_bytes(std::span(all[i]))));
  }
  return setup;
}

Result<std::unique_ptr<Transport>> make_rdma(RdmaSetup setup) {
  TUTTI_ASSIGN_OR_RETURN(auto rdma, RdmaTransport::create(std::move(setup.options)));
  return std::unique_ptr<Transport>(new RdmaPlayer(std::move(setup.listener), std::move(rdma)));
}

Result<std::unique_ptr<Transport>> make_rdma(Player& player, const std::vector<int>& members, const std::string& seed,
                                             const Setting& setting) {
  TUTTI_ASSIGN_OR_RETURN(RdmaSetup setup, meet_over_rdma(player, members, seed));
  setup.options.channels = setting.shape.channels;
  setup.options.buffer_bytes = setting.shape.buffer_bytes;
  return make_rdma(std::move(setup));
}

}  // namespace tutti::test
