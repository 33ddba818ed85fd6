// SPDX-License-Identifier: Apache-2.0
// How ranks of a host come to share memory: each way, each refusal, strangers, and that nothing stays behind.
#include <dirent.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <future>
#include <thread>

#include "tests/transports/stage.h"
#include "transports/shm/shm_transport.h"

namespace tutti::test {
namespace {

constexpr int64_t kShortMs = 300;

ShmKey key_of(uint64_t seed) {
  ShmKey key{};
  const uint64_t word = mix(seed + static_cast<uint64_t>(::getpid()));
  std::memcpy(key.secret.data(), &word, sizeof word);
  return key;
}

ArenaLayout two_ranks() { return *ArenaLayout::compute({.local_ranks = 2, .channels = 1, .buffer_bytes = 65536}); }
const HostGroup kLeader{3, {3, 8}}, kOther{8, {3, 8}};

std::vector<std::string> our_files(const std::string& directory) {
  std::vector<std::string> names;
  DIR* open = ::opendir(directory.c_str());
  if (open == nullptr) return names;
  while (const dirent* entry = ::readdir(open))
    if (std::string(entry->d_name).starts_with("tutti-")) names.push_back(entry->d_name);
  ::closedir(open);
  return names;
}

// A directory of its own, so that tests beside each other do not see each other's files.
struct Directory {
  std::string path;
  Directory() {
    char name[] = "/dev/shm/transports-test-XXXXXX";
    path = ::mkdtemp(name);
  }
  ~Directory() {
    for (const std::string& name : our_files(path)) ::unlink((path + "/" + name).c_str());
    ::rmdir(path.c_str());
  }
};

struct Pair {
  std::unique_ptr<ShmTransport> leader, other;
};
// Both halves in this process, with the same options.
Pair make_pair(uint64_t seed, const ShmOptions& options) {
  Result<ShmSetup> a = ShmSetup::begin(key_of(seed), kLeader, two_ranks(), options);
  Result<ShmSetup> b = ShmSetup::begin(key_of(seed), kOther, two_ranks(), options);
  EXPECT_TRUE(a.ok()) << a.status().message();
  EXPECT_TRUE(b.ok()) << b.status().message();
  const ShmOffer offer = a->offer();
  auto fetching = std::async(std::launch::async, [&] { return b->finish(offer, Deadline::in_ms(kPatienceMs)); });
  Result<std::unique_ptr<ShmTransport>> leader = a->finish(offer, Deadline::in_ms(kPatienceMs));
  Result<std::unique_ptr<ShmTransport>> other = fetching.get();
  EXPECT_TRUE(leader.ok()) << leader.status().message();
  EXPECT_TRUE(other.ok()) << other.status().message();
  if (!leader.ok() || !other.ok()) return {};
  return {std::move(*leader), std::move(*other)};
}

void expect_shared(Pair& pair) {
  ASSERT_NE(pair.leader, nullptr);
  fill(pair.leader->control_page(3), 42);
  EXPECT_TRUE(holds(pair.other->control_page(3), 42));
  EXPECT_NE(pair.leader->control_page(3).data(), pair.other->control_page(3).data());
  Result<SendEnd*> end = pair.leader->send_end(8, 0, Use::Collective);
  ASSERT_TRUE(end.ok()) << end.status().message();
}

TEST(Shm, TakesTheFirstWayThatIsAllowed) {
  Directory directory;
  Pair memfd = make_pair(1, {.directory = directory.path});
  expect_shared(memfd);
  EXPECT_FALSE(memfd.leader->fallen_back());
  EXPECT_FALSE(memfd.other->fallen_back());

  Pair nameless = make_pair(2, {.directory = directory.path, .allow_memfd = false});
  expect_shared(nameless);
  EXPECT_TRUE(nameless.leader->fallen_back());
  EXPECT_TRUE(nameless.other->fallen_back());

  Pair named = make_pair(3, {.directory = directory.path, .allow_memfd = false, .allow_socket = false});
  expect_shared(named);
  EXPECT_TRUE(named.leader->fallen_back());
  EXPECT_TRUE(named.other->fallen_back());
  EXPECT_TRUE(our_files(directory.path).empty());
}

TEST(Shm, NamedFileIsPrivateAndGoesWithTheSetup) {
  Directory directory;
  {
    Result<ShmSetup> setup =
        ShmSetup::begin(key_of(4), kLeader, two_ranks(), {.directory = directory.path, .allow_socket = false});
    ASSERT_TRUE(setup.ok()) << setup.status().message();
    ASSERT_EQ(our_files(directory.path).size(), 1u);
    struct stat info {};
    ASSERT_EQ(::stat((directory.path + "/" + our_files(directory.path)[0]).c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 0777, 0600u);
    ShmSetup moved = std::move(*setup);
    EXPECT_EQ(our_files(directory.path).size(), 1u);
  }
  EXPECT_TRUE(our_files(directory.path).empty());

  Result<ShmSetup> late =
      ShmSetup::begin(key_of(4), kLeader, two_ranks(), {.directory = directory.path, .allow_socket = false});
  ASSERT_TRUE(late.ok());
  const auto made = late->finish(late->offer(), Deadline::in_ms(kShortMs));
  EXPECT_EQ(made.status().code(), Code::RemoteError);
  EXPECT_NE(made.status().message().find("rank 8"), std::string::npos) << made.status().message();
  EXPECT_TRUE(our_files(directory.path).empty());
}

TEST(Shm, NamesTheRankThatDoesNotFetch) {
  Result<ShmSetup> setup = ShmSetup::begin(key_of(5), kLeader, two_ranks());
  ASSERT_TRUE(setup.ok()) << setup.status().message();
  const auto made = setup->finish(setup->offer(), Deadline::in_ms(kShortMs));
  EXPECT_EQ(made.status().code(), Code::RemoteError);
  EXPECT_NE(made.status().message().find("rank 8"), std::string::npos) << made.status().message();
}

TEST(Shm, NamesTheLeaderThatFailed) {
  Result<ShmSetup> setup = ShmSetup::begin(key_of(6), kOther, two_ranks());
  ASSERT_TRUE(setup.ok());
  const auto none = setup->finish(ShmOffer{}, Deadline::in_ms(kShortMs));
  EXPECT_EQ(none.status().code(), Code::RemoteError);
  EXPECT_NE(none.status().message().find("rank 3"), std::string::npos) << none.status().message();

  const auto gone = setup->finish({.kind = ShmOffer::Kind::Socket}, Deadline::in_ms(kShortMs));
  EXPECT_EQ(gone.status().code(), Code::RemoteError);
  EXPECT_NE(gone.status().message().find("rank 3"), std::string::npos) << gone.status().message();

  ShmOffer escape{.kind = ShmOffer::Kind::File};
  std::strcpy(escape.file, "tutti-../../etc/passwd");
  EXPECT_EQ(setup->finish(escape, Deadline::in_ms(kShortMs)).status().code(), Code::RemoteError);
}

TEST(Shm, StopsWaitingForASilentLeader) {
  Result<ShmSetup> leader = ShmSetup::begin(key_of(7), kLeader, two_ranks());  // listens, and never serves
  Result<ShmSetup> other = ShmSetup::begin(key_of(7), kOther, two_ranks());
  ASSERT_TRUE(leader.ok() && other.ok());
  const auto made = other->finish(leader->offer(), Deadline::in_ms(kShortMs));
  EXPECT_EQ(made.status().code(), Code::RemoteError);
  EXPECT_NE(made.status().message().find("rank 3"), std::string::npos) << made.status().message();
}

TEST(Shm, TellsAnotherLayoutFromAStranger) {
  Result<ShmSetup> leader = ShmSetup::begin(key_of(8), kLeader, two_ranks());
  Result<ShmSetup> other = ShmSetup::begin(key_of(8), kOther, *ArenaLayout::compute({.local_ranks = 2, .channels = 2}));
  ASSERT_TRUE(leader.ok() && other.ok());
  auto serving = std::async(std::launch::async,
                            [&] { return leader->finish(leader->offer(), Deadline::in_ms(kPatienceMs)).status(); });
  const auto made = other->finish(leader->offer(), Deadline::in_ms(kPatienceMs));
  EXPECT_EQ(made.status().code(), Code::InvalidUsage);
  EXPECT_NE(made.status().message().find("TUTTI_BUFFER_BYTES"), std::string::npos) << made.status().message();
  EXPECT_TRUE(serving.get().ok());
}

// The name of the leader's socket, as a same-user stranger could read it from /proc/net/unix.
std::vector<std::string> abstract_sockets() {
  std::vector<std::string> names;
  std::FILE* file = std::fopen("/proc/net/unix", "r");
  char line[512];
  while (file != nullptr && std::fgets(line, sizeof line, file) != nullptr) {
    const char* at = std::strstr(line, "@tutti-");
    if (at != nullptr) names.emplace_back(at + 1, std::strcspn(at + 1, "\n"));
  }
  if (file != nullptr) std::fclose(file);
  return names;
}
UniqueFd knock(const std::string& name) {
  UniqueFd socket{::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0)};
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path + 1, name.data(), name.size());
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), size) != 0) socket.reset();
  return socket;
}

TEST(Shm, StrangersGetNothingAndDisturbNothing) {
  const std::vector<std::string> before = abstract_sockets();
  Result<ShmSetup> leader = ShmSetup::begin(key_of(9), kLeader, two_ranks());
  Result<ShmSetup> other = ShmSetup::begin(key_of(9), kOther, two_ranks());
  ASSERT_TRUE(leader.ok() && other.ok());
  std::string name;
  for (const std::string& candidate : abstract_sockets())
    if (std::find(before.begin(), before.end(), candidate) == before.end()) name = candidate;
  ASSERT_FALSE(name.empty());

  UniqueFd silent = knock(name), noisy = knock(name), gone = knock(name);
  ASSERT_TRUE(silent && noisy);
  ASSERT_GT(::send(noisy.get(), "let me in", 9, MSG_NOSIGNAL), 0);
  gone.reset();
  auto serving =
      std::async(std::launch::async, [&] { return leader->finish(leader->offer(), Deadline::in_ms(kPatienceMs)); });
  // Says a right hello with a made-up proof: gets a challenge and is shown the door.
  UniqueFd liar = knock(name);
  ASSERT_TRUE(liar);
  struct {
    char magic[8];
    int64_t rank;
    unsigned char nonce[32];
  } hello{{'t', 'u', 't', 't', 'i', 's', 'h', '1'}, 1, {}};
  ASSERT_EQ(::send(liar.get(), &hello, sizeof hello, MSG_NOSIGNAL), static_cast<ssize_t>(sizeof hello));
  char challenge[64];
  ASSERT_EQ(::recv(liar.get(), challenge, sizeof challenge, 0), 64);
  char proof[32] = {};
  ASSERT_EQ(::send(liar.get(), proof, sizeof proof, MSG_NOSIGNAL), 32);
  char nothing[64];
  EXPECT_EQ(::recv(liar.get(), nothing, sizeof nothing, 0), 0);

  const auto fetched = other->finish(leader->offer(), Deadline::in_ms(kPatienceMs));
  EXPECT_TRUE(fetched.ok()) << fetched.status().message();
  EXPECT_TRUE(serving.get().ok());
  EXPECT_EQ(::recv(silent.get(), nothing, sizeof nothing, 0), 0);
}

TEST(Shm, WhoeverAnswersForTheLeaderMustProveTheSecret) {
  // A process that knows the name (here: the same key, another tag would not help it) but cannot make the MAC.
  const std::vector<std::string> before = abstract_sockets();
  Result<ShmSetup> leader = ShmSetup::begin(key_of(10), kLeader, two_ranks());
  ASSERT_TRUE(leader.ok());
  std::string name;
  for (const std::string& candidate : abstract_sockets())
    if (std::find(before.begin(), before.end(), candidate) == before.end()) name = candidate;
  const ShmOffer offer = leader->offer();
  { const ShmSetup gone = std::move(*leader); }  // frees the name
  UniqueFd impostor{::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0)};
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path + 1, name.data(), name.size());
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
  ASSERT_EQ(::bind(impostor.get(), reinterpret_cast<const sockaddr*>(&address), size), 0);
  ASSERT_EQ(::listen(impostor.get(), 4), 0);
  Result<ShmSetup> other = ShmSetup::begin(key_of(10), kOther, two_ranks());
  ASSERT_TRUE(other.ok());
  auto fetching =
      std::async(std::launch::async, [&] { return other->finish(offer, Deadline::in_ms(kPatienceMs)).status(); });
  UniqueFd caller{::accept(impostor.get(), nullptr, nullptr)};
  char words[64] = {};
  ASSERT_GT(::recv(caller.get(), words, sizeof words, 0), 0);
  ASSERT_EQ(::send(caller.get(), words, sizeof words, MSG_NOSIGNAL), 64);
  const Status status = fetching.get();
  EXPECT_EQ(status.code(), Code::RemoteError);
  EXPECT_NE(status.message().find("secret"), std::string::npos) << status.message();
}

// Two groups that stand for two hosts, and two communicators of one secret: at the same time in one network namespace.
TEST(Shm, KeepsCommunicatorsAndHostGroupsApart) {
  ShmKey other_tag = key_of(11);
  other_tag.tag[0] = std::byte{1};
  Result<ShmSetup> a = ShmSetup::begin(key_of(11), kLeader, two_ranks());
  Result<ShmSetup> b = ShmSetup::begin(other_tag, kLeader, two_ranks());
  Result<ShmSetup> c = ShmSetup::begin(key_of(11), {4, {4, 5}}, two_ranks());
  EXPECT_TRUE(a.ok() && b.ok() && c.ok());
}

// A full /dev/shm is an error with a remedy, not a bus error. Needs a small tmpfs of its own, so root.
TEST(Shm, AFullDirectoryIsAnErrorThatNamesTheRemedy) {
  Directory directory;
  if (::mount("tmpfs", directory.path.c_str(), "tmpfs", 0, "size=256k") != 0)
    GTEST_SKIP() << "cannot mount a tmpfs here: " << std::strerror(errno);
  struct Unmount {
    const std::string& path;
    ~Unmount() { ::umount2(path.c_str(), MNT_DETACH); }
  } unmount{directory.path};
  {
    Pair pair = make_pair(12, {.directory = directory.path, .allow_memfd = false});
    ASSERT_NE(pair.leader, nullptr);
    const Result<SendEnd*> end = pair.leader->send_end(8, 0, Use::Collective);  // 64 KiB of slots + LL slots
    EXPECT_EQ(end.status().code(), Code::SystemError);
    for (const char* word : {"full", "shm-size", "TUTTI_BUFFER_BYTES", "memfd_create"})
      EXPECT_NE(end.status().message().find(word), std::string::npos) << end.status().message();
  }
  // Not even the control pages fit.
  Result<ShmSetup> big = ShmSetup::begin(key_of(13), {0, {0, 1}}, *ArenaLayout::compute({.local_ranks = 2}),
                                         {.directory = directory.path, .allow_memfd = false});
  EXPECT_TRUE(big.ok());
  std::vector<int> many(100);
  for (int r = 0; r < 100; ++r) many[r] = r;
  Result<ShmSetup> full = ShmSetup::begin(key_of(14), {0, many}, *ArenaLayout::compute({.local_ranks = 100}),
                                          {.directory = directory.path, .allow_memfd = false});
  EXPECT_EQ(full.status().code(), Code::SystemError);
  EXPECT_TRUE(our_files(directory.path).empty());
}

TEST(Shm, ADirectoryThatCannotBeWrittenIsNamed) {
  Result<ShmSetup> setup =
      ShmSetup::begin(key_of(15), kLeader, two_ranks(), {.directory = "/proc", .allow_memfd = false});
  EXPECT_EQ(setup.status().code(), Code::SystemError);
  EXPECT_NE(setup.status().message().find("/proc"), std::string::npos) << setup.status().message();
}

TEST(Shm, KilledRanksLeaveNothingBehind) {
  Directory directory;
  const size_t sockets_before = abstract_sockets().size();
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    const Result<ShmSetup> setup =
        ShmSetup::begin(key_of(16), kLeader, two_ranks(), {.directory = directory.path, .allow_memfd = false});
    ::raise(setup.ok() ? SIGKILL : SIGABRT);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
  EXPECT_TRUE(our_files(directory.path).empty());
  EXPECT_LE(abstract_sockets().size(), sockets_before);
}

// Descriptors and mappings of many set-ups come back.
TEST(Shm, ManySetupsLeakNoDescriptors) {
  const auto open_descriptors = [] {
    int count = 0;
    DIR* open = ::opendir("/proc/self/fd");
    while (::readdir(open) != nullptr) ++count;
    ::closedir(open);
    return count;
  };
  make_pair(17, {});
  const int before = open_descriptors();
  for (int i = 0; i < 20; ++i) make_pair(18 + i, {.allow_memfd = i % 2 == 0});
  EXPECT_EQ(open_descriptors(), before);
}

}  // namespace
}  // namespace tutti::test
