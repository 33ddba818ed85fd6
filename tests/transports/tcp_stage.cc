// SPDX-License-Identifier: Apache-2.0
#include "tests/transports/tcp_stage.h"

#include <unistd.h>

#include <cstring>

namespace tutti::test {

Result<TcpSetup> meet_over_tcp(Player& player, const std::vector<int>& members, const std::string& seed) {
  TcpSetup setup;
  TcpOptions& options = setup.options;
  std::memcpy(options.secret.bytes.data(), seed.data(), std::min(seed.size(), options.secret.bytes.size()));
  TUTTI_TRY(crypto_ready());
  options.tag = tag_of(options.secret);
  options.me = members[player.me];
  options.connect_timeout_ms = kPatienceMs;
  options.peers.resize(members.back() + 1);
  TUTTI_ASSIGN_OR_RETURN(const SocketAddress here, SocketAddress::parse("127.0.0.1:0"));
  TUTTI_ASSIGN_OR_RETURN(
      setup.listener,
      PeerListener::open({options.secret, options.tag, options.me, static_cast<int>(options.peers.size())}, {here}));
  options.listener = setup.listener.get();
  const std::string mine = fmt::format("{} {}", setup.listener->addresses().front().text(), ::getpid());
  const std::vector<std::string> all = player.gather(mine);
  for (size_t i = 0; i < members.size(); ++i) {
    const size_t space = all[i].find(' ');
    TUTTI_ASSIGN_OR_RETURN(const SocketAddress address, SocketAddress::parse(all[i].substr(0, space)));
    options.peers[members[i]] = {{address}, fmt::format("rank {} (process {})", members[i], all[i].substr(space + 1))};
  }
  return setup;
}

namespace {

// The transport and the listener that must outlive it.
class TcpPlayer final : public Transport {
 public:
  TcpPlayer(std::unique_ptr<PeerListener> listener, std::unique_ptr<TcpTransport> transport)
      : listener_(std::move(listener)), tcp_(std::move(transport)) {}
  std::string_view name() const override { return tcp_->name(); }
  bool reaches(int peer) const override { return tcp_->reaches(peer); }
  bool mapped() const override { return tcp_->mapped(); }
  const TransportLimits& limits() const override { return tcp_->limits(); }
  Result<SendEnd*> send_end(int peer, int channel, Use use) override { return tcp_->send_end(peer, channel, use); }
  Result<ReceiveEnd*> receive_end(int peer, int channel, Use use) override {
    return tcp_->receive_end(peer, channel, use);
  }
  Result<SendEnd*> fan_send_end(int channel) override { return tcp_->fan_send_end(channel); }
  Result<ReceiveEnd*> fan_receive_end(int peer, int channel) override { return tcp_->fan_receive_end(peer, channel); }
  Result<bool> progress() override { return tcp_->progress(); }
  bool flushed() const override { return tcp_->flushed(); }
  void wait(int timeout_ms) override { tcp_->wait(timeout_ms); }

 private:
  std::unique_ptr<PeerListener> listener_;
  std::unique_ptr<TcpTransport> tcp_;
};

}  // namespace

Result<std::unique_ptr<Transport>> make_tcp(Player& player, const std::vector<int>& members, const std::string& seed,
                                            const Setting& setting) {
  TUTTI_ASSIGN_OR_RETURN(TcpSetup setup, meet_over_tcp(player, members, seed));
  setup.options.channels = setting.shape.channels;
  setup.options.buffer_bytes = setting.shape.buffer_bytes;
  TUTTI_ASSIGN_OR_RETURN(auto tcp, TcpTransport::create(setup.options));
  return std::unique_ptr<Transport>(new TcpPlayer(std::move(setup.listener), std::move(tcp)));
}

}  // namespace tutti::test
