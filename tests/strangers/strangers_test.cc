// SPDX-License-Identifier: Apache-2.0
// Strangers at every door of a job: while ranks meet, while they calculate, while new connections are made, and at the
// socket of the status service. Each test runs a job whose values are checked, and an attacker who may run on the same
// host as the same user, knows every port, and lacks only the secret.
#include <dirent.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstring>
#include <fstream>
#include <new>
#include <random>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "api/harness.h"
#include "base/handle.h"
#include "bootstrap/bootstrap.h"
#include "bootstrap/unique_id.h"
#include "net/handshake.h"
#include "net/socket.h"
#include "observe/service.h"

namespace tutti {
namespace {

using api_test::in_children;
using api_test::last_error;
using Data = std::vector<std::byte>;

constexpr int kRanks = 3, kAttacker = kRanks;
constexpr int kSilent = 100;  // connections that a stranger keeps open at a door, each saying nothing

// What the processes of a test share.
struct Scene {
  std::atomic<int> pids[kRanks]{};
  std::atomic<bool> meeting_attacked{false}, attack_over{false};
  std::atomic<int> rounds{0};  // of the job, on rank 0
};
class SharedScene {
 public:
  SharedScene() : scene_(::mmap(nullptr, sizeof(Scene), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0)) {
    if (scene_ == MAP_FAILED) ::abort();
    new (scene_) Scene;
  }
  SharedScene(const SharedScene&) = delete;
  ~SharedScene() { ::munmap(scene_, sizeof(Scene)); }
  Scene* operator->() const { return static_cast<Scene*>(scene_); }

 private:
  void* scene_;
};

template <class Holds>
void await(Holds holds) {  // the launcher ends a test that waits for ever
  while (!holds()) ::usleep(500);
}

// ---- the attacker ----

struct Address {
  sockaddr_storage raw{};
  socklen_t size = 0;
  int family() const { return raw.ss_family; }
};
Address local_port(uint16_t port, int family) {
  Address address;
  if (family == AF_INET6) {
    auto& v6 = reinterpret_cast<sockaddr_in6&>(address.raw);
    v6.sin6_family = AF_INET6;
    v6.sin6_addr = in6addr_loopback;
    v6.sin6_port = htons(port);
    address.size = sizeof v6;
  } else {
    auto& v4 = reinterpret_cast<sockaddr_in&>(address.raw);
    v4.sin_family = AF_INET;
    v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    v4.sin_port = htons(port);
    address.size = sizeof v4;
  }
  return address;
}
Address of(const SocketAddress& known) {
  Address address;
  std::memcpy(&address.raw, known.raw(), known.size());
  address.size = known.size();
  return address;
}

// The sockets on which a process listens: by its descriptors and the kernel's tables.
std::vector<Address> doors_of(int pid) {
  std::set<std::string> inodes;
  const std::string folder = fmt::format("/proc/{}/fd", pid);
  if (DIR* dir = ::opendir(folder.c_str())) {
    while (const dirent* entry = ::readdir(dir)) {
      char target[64] = {};
      if (::readlink(fmt::format("{}/{}", folder, entry->d_name).c_str(), target, sizeof target - 1) < 0) continue;
      if (std::strncmp(target, "socket:[", 8) == 0)
        inodes.insert(std::string(target + 8, std::strcspn(target + 8, "]")));
    }
    ::closedir(dir);
  }
  std::vector<Address> doors;
  for (const int family : {AF_INET, AF_INET6}) {
    std::ifstream table(fmt::format("/proc/{}/net/{}", pid, family == AF_INET ? "tcp" : "tcp6"));
    for (std::string line; std::getline(table, line);) {
      std::istringstream words(line);
      std::string slot, local, remote, state, queues, timer, retransmits, uid, timeout, inode;
      words >> slot >> local >> remote >> state >> queues >> timer >> retransmits >> uid >> timeout >> inode;
      if (state != "0A" || !inodes.contains(inode)) continue;
      const auto port = static_cast<uint16_t>(std::stoul(local.substr(local.rfind(':') + 1), nullptr, 16));
      doors.push_back(local_port(port, family));
    }
  }
  return doors;
}

UniqueFd connect_to(const Address& address) {
  UniqueFd socket(::socket(address.family(), SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address.raw), address.size) != 0) socket.reset();
  return socket;
}
void say(const UniqueFd& socket, std::span<const std::byte> bytes) {
  (void)!::send(socket.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
}
Data random_data(std::mt19937& random, size_t size) {
  Data data(size);
  for (std::byte& byte : data) byte = static_cast<std::byte>(random());
  return data;
}
// What comes within a moment, up to `size` bytes.
Data hear(const UniqueFd& socket, size_t size, int wait_ms = 200) {
  Data data(size);
  size_t got = 0;
  for (pollfd item{socket.get(), POLLIN, 0}; got < size && ::poll(&item, 1, wait_ms) == 1;) {
    const ssize_t now = ::recv(socket.get(), data.data() + got, size - got, 0);
    if (now <= 0) break;
    got += static_cast<size_t>(now);
  }
  data.resize(got);
  return data;
}

// A hello that was good once: made for the greeting of one connection, which is then given up.
Data record_hello(const Address& door, const UniqueId& id, uint32_t purpose, int to) {
  const UniqueFd socket = connect_to(door);
  if (!socket) return {};
  const Data greeting = hear(socket, Handshake::kGreetingBytes, 5000);
  if (greeting.size() != Handshake::kGreetingBytes) return {};
  ByteWriter hello;
  hello.number(Handshake::kMagic);
  hello.number(Handshake::kVersion);
  hello.raw(tag_of(id.secret).bytes);
  hello.number(int32_t{1});
  hello.number(int32_t{to});
  hello.number(purpose);
  for (size_t i = 0; i < Handshake::kNonceBytes; ++i) hello.number(static_cast<uint8_t>(i));
  Data transcript = greeting;
  transcript.insert(transcript.end(), hello.bytes().begin(), hello.bytes().end());
  const Mac mac = keyed_mac(id.secret, "tutti handshake: dialer",
                            {reinterpret_cast<const uint8_t*>(transcript.data()), transcript.size()});
  hello.raw(mac);
  return hello.take();
}

// Every kind of stranger once. Returns those that stay, so that they stay.
void attack(const Address& door, const Data& recorded, std::mt19937& random, std::vector<UniqueFd>& staying) {
  connect_to(door);  // comes and goes
  if (UniqueFd socket = connect_to(door)) {
    constexpr std::string_view kRequest = "GET / HTTP/1.1\r\nHost: tutti\r\n\r\n";
    say(socket, std::as_bytes(std::span(kRequest)));
    staying.push_back(std::move(socket));
  }
  for (const size_t size : {1, 40, 108, 5000}) {
    if (UniqueFd socket = connect_to(door)) say(socket, random_data(random, size));
  }
  if (UniqueFd socket = connect_to(door)) {  // the listener's own words
    const Data greeting = hear(socket, Handshake::kGreetingBytes);
    say(socket, greeting);
    say(socket, greeting);
    staying.push_back(std::move(socket));
  }
  if (UniqueFd socket = connect_to(door); socket && !recorded.empty()) {
    (void)hear(socket, Handshake::kGreetingBytes);
    say(socket, recorded);
    // A door that fell for it would prove itself.
    EXPECT_TRUE(hear(socket, sizeof(Mac)).empty()) << "a recorded handshake was accepted";
  }
  if (UniqueFd socket = connect_to(door); socket && !recorded.empty()) {  // slow: a few bytes, the rest never
    say(socket, std::span(recorded).first(9));
    staying.push_back(std::move(socket));
  }
}

void crowd(const Address& door, std::vector<UniqueFd>& staying) {
  for (int i = 0; i < kSilent; ++i) {
    if (UniqueFd socket = connect_to(door)) staying.push_back(std::move(socket));
  }
}

// ---- the job ----

void check_round(tuttiComm_t comm, int rank, int round) {
  std::array<int64_t, 1000> mine, all;
  const size_t count = 1 + static_cast<size_t>(round) * 37 % mine.size();
  for (size_t i = 0; i < count; ++i) mine[i] = static_cast<int64_t>(i) * (rank + 1) + round;
  ASSERT_OK(tuttiAllReduce(mine.data(), all.data(), count, TUTTI_INT64, TUTTI_SUM, comm, nullptr));
  for (size_t i = 0; i < count; ++i) ASSERT_EQ(all[i], static_cast<int64_t>(i) * 6 + 3 * round) << "element " << i;
  std::array<int64_t, kRanks> gathered{};
  ASSERT_OK(tuttiAllGather(mine.data(), gathered.data(), 1, TUTTI_INT64, comm, nullptr));
  for (const int64_t one : gathered) ASSERT_EQ(one, round);
}

// Connections that no call has needed yet are made now, past whoever waits at the doors.
void check_new_connections(tuttiComm_t comm, int rank) {
  std::array<int, kRanks> sent{}, received{};
  ASSERT_OK(tuttiGroupStart());
  for (int peer = 0; peer < kRanks; ++peer) {
    if (peer == rank) continue;
    sent[static_cast<size_t>(peer)] = 10 * rank + peer;
    EXPECT_OK(tuttiSend(&sent[static_cast<size_t>(peer)], 1, TUTTI_INT32, peer, comm, nullptr));
    EXPECT_OK(tuttiRecv(&received[static_cast<size_t>(peer)], 1, TUTTI_INT32, peer, comm, nullptr));
  }
  ASSERT_OK(tuttiGroupEnd());
  for (int peer = 0; peer < kRanks; ++peer) {
    if (peer != rank) {
      EXPECT_EQ(received[static_cast<size_t>(peer)], 10 * peer + rank);
    }
  }
}

void work(int rank, launcher::Page& page, const SharedScene& scene, bool on_hosts) {
  if (on_hosts) ::setenv("TUTTI_HOST_ID", fmt::format("host{}", rank).c_str(), 1);
  scene->pids[rank] = ::getpid();
  const tuttiUniqueId id = api_test::shared_id(rank, page);
  // The last rank comes only when the meeting place has seen its strangers.
  if (rank == kRanks - 1) await([&] { return scene->meeting_attacked.load(); });
  tuttiComm_t comm = nullptr;
  ASSERT_OK(tuttiCommInitRank(&comm, kRanks, id, rank));
  int over = 0;
  for (int round = 0; over == 0; ++round) {
    check_round(comm, rank, round);
    if (testing::Test::HasFailure()) return;
    if (rank == 0) {
      scene->rounds = round + 1;
      over = scene->attack_over.load() ? 1 : 0;
    }
    ASSERT_OK(tuttiBroadcast(&over, &over, 1, TUTTI_INT32, 0, comm, nullptr));
    page.member[rank].at.fetch_add(1);
  }
  check_new_connections(comm, rank);
  ASSERT_OK(tuttiCommDestroy(comm));
}

void attack_all(launcher::Page& page, const SharedScene& scene) {
  ASSERT_TRUE(crypto_ready().ok());
  std::mt19937 random(7);
  std::vector<UniqueFd> staying;
  const tuttiUniqueId raw = page.await();
  const Result<UniqueId> id = decode_unique_id(std::span<const char, kUniqueIdBytes>(raw.internal, kUniqueIdBytes));
  ASSERT_TRUE(id.ok());

  // The rendezvous, while it waits for the last rank.
  const Address rendezvous = of(id->addresses.front());
  const Data joined = record_hello(rendezvous, *id, kPurposeRendezvous, -1);
  ASSERT_FALSE(joined.empty());
  for (int i = 0; i < 3; ++i) attack(rendezvous, joined, random, staying);
  crowd(rendezvous, staying);
  scene->meeting_attacked = true;

  // Every port of every rank, while they calculate.
  await([&] { return scene->rounds.load() > 0; });
  int doors = 0;
  for (int rank = 0; rank < kRanks; ++rank) {
    for (const Address& door : doors_of(scene->pids[rank])) {
      ++doors;
      // A rank that has all its connections does not answer its door: then there is no greeting to record one for.
      attack(door, joined, random, staying);
      crowd(door, staying);
      page.member[kAttacker].at.fetch_add(1);
    }
  }
  EXPECT_GE(doors, kRanks) << "a rank without a listening port: this test looks at the wrong place";
  const int then = scene->rounds.load();
  await([&] { return scene->rounds.load() > then + 10; });  // the job goes on meanwhile
  scene->attack_over = true;
  // Those who stay wait at the doors until the ranks have made their new connections.
  await([&] {
    return std::all_of(std::begin(scene->pids), std::end(scene->pids),
                       [](const std::atomic<int>& pid) { return ::kill(pid.load(), 0) != 0 || doors_of(pid).empty(); });
  });
}

// Each rank on a host of its own, or all on one.
void besiege(bool on_hosts, api_test::Environment environment = {}) {
  const SharedScene scene;
  const auto body = [&](int index, launcher::Page& page) {
    if (index == kAttacker) return attack_all(page, scene);
    work(index, page, scene, on_hosts);
  };
  environment.emplace_back("TUTTI_DEBUG", "none");
  in_children(kRanks + 1, body, environment);
}

TEST(Strangers, AtTheDoorsOfAJobOverTcpDisturbNothing) { besiege(true, {{"TUTTI_TRANSPORTS", "tcp"}}); }
TEST(Strangers, AtTheDoorsOfAJobInSharedMemoryDisturbNothing) { besiege(false); }
#if TUTTI_HAVE_VERBS
// Queue pairs and keys are offered over a socket, behind such a door.
TEST(Strangers, AtTheDoorsOfAJobOverRdmaDisturbNothing) {
  besiege(true, {{"TUTTI_TRANSPORTS", "rdma"}, {"TUTTI_VERBS_LIBRARY", FAKE_RDMA}});
}
#endif

// ---- the status socket (that of shared memory: tests/transports) ----

UniqueFd connect_to_abstract(const sockaddr_un& address, socklen_t size, int type) {
  UniqueFd socket(::socket(AF_UNIX, type | SOCK_CLOEXEC, 0));
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), size) != 0) socket.reset();
  return socket;
}

TEST(Strangers, AtTheStatusSocketAreDroppedAndTheJobGoesOn) {
  api_test::in_child([] {
    std::array<tuttiComm_t, 2> comms;
    ASSERT_OK(tuttiCommInitAll(comms.data(), 2, nullptr));
    std::ifstream list("/proc/net/unix");
    const std::string mine = fmt::format("@{}{}-{}-", kStatusSocketPrefix, ::geteuid(), ::getpid());
    sockaddr_un address{};
    socklen_t size = 0;
    for (std::string line; std::getline(list, line);) {
      const size_t at = line.find(mine);
      if (at == std::string::npos) continue;
      address.sun_family = AF_UNIX;
      std::memcpy(address.sun_path + 1, line.data() + at + 1, line.size() - at - 1);
      size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + line.size() - at);
    }
    ASSERT_GT(size, 0u);
    std::mt19937 random(11);
    std::vector<UniqueFd> staying;
    for (int i = 0; i < 3 * static_cast<int>(kMostCallers); ++i) {
      UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
      // With many silent ones before it the queue may be full for a moment: that is their trouble, not the job's.
      if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), size) != 0) continue;
      if (i % 2 == 0) say(socket, random_data(random, 1 + static_cast<size_t>(i) * 7));
      staying.push_back(std::move(socket));
      std::array<int, 2> one{1, 2}, sum{};
      ASSERT_OK(tuttiGroupStart());
      for (size_t rank = 0; rank < 2; ++rank)
        EXPECT_OK(tuttiAllReduce(&one[rank], &sum[rank], 1, TUTTI_INT32, TUTTI_SUM, comms[rank], nullptr));
      ASSERT_OK(tuttiGroupEnd());
      EXPECT_EQ(sum[0], 3);
      EXPECT_EQ(sum[1], 3);
    }
    // The silent ones' time passes, and one who asks properly is answered.
    Data answer;
    while (answer.empty()) {
      const UniqueFd socket = connect_to_abstract(address, size, SOCK_STREAM);
      ASSERT_TRUE(socket);
      say(socket, std::as_bytes(std::span(kStatusRequest)));
      answer = hear(socket, 1 << 20, 2 * static_cast<int>(kPatienceMs));
    }
    EXPECT_EQ(answer.front(), std::byte{'{'});
    for (const tuttiComm_t comm : comms) EXPECT_OK(tuttiCommDestroy(comm));
  });
}

}  // namespace
}  // namespace tutti
