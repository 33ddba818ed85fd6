// SPDX-License-Identifier: Apache-2.0
// A stage for transport tests: n ranks, as threads or as forked processes, each with a transport of one kind.
//
// A body runs once per rank and uses EXPECT_*; failures in a process make its exit status non-zero, and the stage
// expects zero. Ranks meet by barriers and exchange bytes through memory that all of them share.
#pragma once

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cstdint>
#include <cstdlib>
#include <functional>
#include <memory>
#include <new>
#include <span>
#include <string>
#include <vector>

#include "base/deadline.h"
#include "transports/arena.h"
#include "transports/mapped.h"
#include "transports/transport.h"

namespace tutti::test {

enum class Medium : uint8_t { Inproc, Shm, ShmNamelessFile, ShmNamedFile, Tcp, Rdma };
// Peers map the slots.
constexpr bool maps(Medium medium) { return medium != Medium::Tcp && medium != Medium::Rdma; }
enum class Ranks : uint8_t { Threads, Processes };

struct Kind {
  const char* name;
  Medium medium;
  Ranks ranks;
};
inline void PrintTo(const Kind& kind, std::ostream* out) { *out << kind.name; }
// Every row is a transport that the conformance suite runs against.
const std::vector<Kind>& kinds();

// How long any wait of a test may take. Long, because sanitizers are slow on a busy machine, and on emulated processors
// (tests/rdma); a pass never waits for it.
inline constexpr int64_t kPatienceMs = 240'000;

class Stage;

// One rank on the stage.
class Player {
 public:
  Player(Stage& stage, int me) : me(me), stage_(stage) {}

  // Collective. Each rank's bytes (at most 512 per rank), in rank order.
  std::vector<std::string> gather(const std::string& mine);
  void barrier() { gather({}); }

  // Carries the transport until `done()`; false, with a test failure, after kPatienceMs or on an error of progress().
  bool until(const std::function<bool()>& done, const char* what);
  bool flush() {
    return until([&] { return transport->flushed(); }, "everything has left");
  }

  // The first error of progress(), or success after `patience_ms`.
  Status failure_within(int64_t patience_ms);

  // One message through a Simple FIFO. Its bytes follow from `seed`.
  bool send(SendEnd& end, SlotCut cut, uint64_t bytes, uint64_t seed, uint32_t identity = 7);
  bool receive(ReceiveEnd& end, SlotCut cut, uint64_t bytes, uint64_t seed, uint32_t identity = 7);

  const int me;
  std::unique_ptr<Transport> transport;

 private:
  friend class Stage;
  Stage& stage_;
};

using Body = std::function<void(Player&)>;

struct Setting {
  Kind kind;
  int ranks = 2;
  ArenaShape shape{};  // local_ranks is set by the stage
  // Ranks in the communicator; empty: 0 .. ranks - 1.
  std::vector<int> members{};
  // The one whose process is killed in the test: how it ends does not count.
  int doomed = -1;
};

// Runs `body` on every rank, each with its transport made, and takes the transports down after all bodies ended.
void perform(const Setting& setting, const Body& body);
// The same without transports (tests of set-up make their own).
void perform_bare(const Setting& setting, const Body& body);
// Makes one rank's transport of the setting's kind.
Result<std::unique_ptr<Transport>> make_transport(Player& player, const Setting& setting);

// An object that forked processes share.
template <class T>
class Shared {
 public:
  Shared() : mapping_(::mmap(nullptr, sizeof(T), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0)) {
    if (mapping_ == MAP_FAILED) ::abort();
    new (mapping_) T{};
  }
  Shared(const Shared&) = delete;
  ~Shared() { ::munmap(mapping_, sizeof(T)); }
  T& operator*() const { return *static_cast<T*>(mapping_); }
  T* operator->() const { return static_cast<T*>(mapping_); }

 private:
  void* mapping_;
};

// Repeatable bytes for a seed, and whether `data` holds them.
void fill(std::span<std::byte> data, uint64_t seed);
bool holds(std::span<const std::byte> data, uint64_t seed);
uint64_t mix(uint64_t x);

}  // namespace tutti::test
