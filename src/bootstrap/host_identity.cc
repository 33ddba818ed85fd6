// SPDX-License-Identifier: Apache-2.0
// See host_identity.h.
#include "bootstrap/host_identity.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <mutex>

#include "base/env.h"
#include "base/fork.h"
#include "base/handle.h"

namespace tutti {
namespace {

// Empty if there is none (a sandbox without /proc).
std::string boot_id() {
  const UniqueFd fd(::open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC));
  char text[64];
  const ssize_t count = fd ? ::read(fd.get(), text, sizeof text) : 0;
  return std::string(text, static_cast<size_t>(std::max<ssize_t>(count, 0)));
}

uint64_t network_namespace() {
  struct stat info {};
  return ::stat("/proc/self/ns/net", &info) == 0 ? info.st_ino : 0;
}

std::string host_name() {
  char name[Member::kMaxHostname + 1] = {};
  if (::gethostname(name, sizeof name - 1) != 0) return "unknown host";
  return name;
}

// One per process: a forked child is another process, so it gets another token.
ProcessToken process_token() {
  static std::mutex& mutex = *[] {
    auto* const made = new std::mutex;
    guard_at_fork(*made);
    return made;
  }();
  static ProcessToken token;
  static pid_t owner = -1;
  const std::lock_guard lock(mutex);
  if (owner != ::getpid()) {
    random_bytes(token);
    owner = ::getpid();
  }
  return token;
}

}  // namespace

std::string Member::text() const { return fmt::format("rank {} ({}, process {})", rank, hostname, pid); }

void Member::encode(ByteWriter& writer) const {
  writer.number(rank);
  writer.raw(host);
  writer.raw(process);
  writer.number(pid);
  writer.sized(std::string_view(hostname).substr(0, kMaxHostname));
}

Member Member::decode(ByteReader& reader) {
  Member member;
  member.rank = reader.number<int32_t>();
  reader.raw(member.host);
  reader.raw(member.process);
  member.pid = reader.number<int32_t>();
  member.hostname = reader.text(kMaxHostname);
  // It is printed on the terminals of all ranks.
  std::ranges::replace_if(
      member.hostname, [](unsigned char c) { return c < ' ' || c > '~'; }, '?');
  return member;
}

HostId host_id_of(const std::string& boot_id, uint64_t network_namespace) {
  ByteWriter writer;
  writer.sized(boot_id);
  writer.number(network_namespace);
  return hash16("tutti host", {reinterpret_cast<const uint8_t*>(writer.bytes().data()), writer.size()});
}

HostId host_id_of_text(const std::string& text) {
  return hash16("tutti host by name", {reinterpret_cast<const uint8_t*>(text.data()), text.size()});
}

Result<Member> this_member(int rank) {
  TUTTI_TRY(crypto_ready());
  Member member;
  member.rank = rank;
  member.hostname = host_name();
  member.pid = ::getpid();
  member.process = process_token();
  if (!env().host_id.empty()) {
    member.host = host_id_of_text(env().host_id);
    return member;
  }
  const std::string boot = boot_id();
  // Without a boot id two hosts could look alike; the name of the host then has to tell them apart.
  member.host = host_id_of(boot.empty() ? member.hostname : boot, network_namespace());
  return member;
}

}  // namespace tutti
