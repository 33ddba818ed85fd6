// SPDX-License-Identifier: Apache-2.0
// What an RDMA peer may say on the socket of a connection once it is trusted: words in pieces of any length. Over the
// look-alike devices, of which the peer has none, so that no queue pair is ever answered.
#include <sys/socket.h>

#include "fuzz/target.h"
#include "transports/rdma/rdma_connection.h"

using namespace tutti;

namespace {

constexpr uint64_t kCapacity = 64 << 10;
using Kind = RdmaWord::Kind;

struct Fixture {
  RdmaSettings settings;
  std::shared_ptr<RdmaDevices> devices;
  std::vector<RdmaPeer> peers{3};
  UserMemory user_memory;

  Fixture() {
    setenv("TUTTI_DEBUG", "none", 1);
    settings.verbs_library = FAKE_RDMA;
    settings.devices = "fake0,fake1";
    Result<std::shared_ptr<RdmaDevices>> opened = open_rdma_devices(settings);
    if (!opened.ok()) std::abort();
    devices = std::move(*opened);
    for (RdmaPeer& peer : peers) peer.ports = devices->ports();
  }
};
Fixture& fixture() {
  static Fixture& only = *new Fixture;
  return only;
}

void add(fuzz::Input& stream, const RdmaWord& word) {
  const auto* const raw = reinterpret_cast<const uint8_t*>(&word);
  stream.insert(stream.end(), raw, raw + sizeof word);
}

}  // namespace

std::vector<fuzz::Input> tutti::fuzz::seeds() {
  const RailOffer first{.generation = 1, .queue_pair = 5, .packet_sequence = 9, .mtu = 1024};
  const RailOffer second{.generation = 2, .queue_pair = 6, .packet_sequence = 9, .mtu = 4096};
  const RdmaWord memory{
      .kind = Kind::Memory, .key = 7, .address = 1 << 20, .bytes = RdmaFifo::kLettersBytes + kCapacity};
  const std::vector<RdmaWord> up = {{.kind = Kind::Offer, .rail = 0, .offer = first},
                                    {.kind = Kind::Offer, .rail = 1, .offer = first},
                                    memory,
                                    {.kind = Kind::Ready, .rail = 0, .offer = {.generation = 1}},
                                    {.kind = Kind::Ready, .rail = 1, .offer = {.generation = 1}}};
  const std::vector<std::vector<RdmaWord>> ends = {
      {{.kind = Kind::Closed, .rail = 0, .offer = {.generation = 1}, .status = 12},
       {.kind = Kind::Offer, .rail = 0, .offer = second},
       {.kind = Kind::Goodbye}},
      {{.kind = Kind::Closed, .rail = 0, .offer = {.generation = 1}, .status = 12},
       {.kind = Kind::Closed, .rail = 1, .offer = {.generation = 1}, .status = 1101}},
      {{.kind = Kind::Lost, .rank = 2}},
      {memory}};
  std::vector<Input> seeds;
  for (const uint8_t piece : {255, 71, 5}) {
    for (const std::vector<RdmaWord>& end : ends) {
      Input stream{piece};
      for (const RdmaWord& word : up) add(stream, word);
      for (const RdmaWord& word : end) add(stream, word);
      seeds.push_back(stream);
    }
  }
  return seeds;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Fixture& known = fixture();
  fuzz::Choices input(data, size);
  const size_t piece = input.byte() + size_t{1};
  int fds[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) != 0) std::abort();
  UniqueFd here(fds[0]), there(fds[1]);
  RdmaConnection connection({.peer = 1,
                             .purpose = 16,
                             .label = "rank 1",
                             .capacity = kCapacity,
                             .me = 0,
                             .peers = &known.peers,
                             .devices = known.devices.get(),
                             .settings = &known.settings,
                             .user_memory = &known.user_memory},
                            std::move(here));
  Result<ReceiveEnd*> end = connection.receive_end();
  if (!end.ok() || !connection.begin().ok()) std::abort();
  while (!input.empty()) {
    const auto now = input.some(piece);
    if (::send(there.get(), now.data(), now.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(now.size())) return 0;
    connection.note_readable();
    const Result<bool> moved = connection.carry();
    fuzz::require(!(*end)->simple.ready(), "words published a message");
    fuzz::require(moved.ok() || !moved.status().message().empty(), "an error without words");
    fuzz::require(connection.culprit() >= 0 && connection.culprit() < 3, "a culprit that is no rank");
    if (!moved.ok()) return 0;
  }
  return 0;
}
