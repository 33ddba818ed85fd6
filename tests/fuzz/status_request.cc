// SPDX-License-Identifier: Apache-2.0
// Requests to the status service: the parser, and the service itself over its socket. Only the right words get an
// answer, and whatever comes, the service goes on.
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cstddef>
#include <fstream>
#include <string>

#include "base/handle.h"
#include "fuzz/target.h"
#include "observe/observed.h"
#include "observe/service.h"

using namespace tutti;

namespace {

// One communicator for the life of the process, so that the service runs; and where it listens.
const std::string& service_name() {
  static const std::string& name = *[] {
    setenv("TUTTI_DEBUG", "none", 1);
    static const std::string_view names[] = {"?"};
    static const uint32_t bytes[] = {1};
    static const CallNames table{names, names, names, names, names, bytes, 255, 0, 0};
    static Observed& observed = *new Observed({"fuzzed", "00", 0, 1, &table}, *Recorder::create());
    static auto& watch = *new Result<Watch>(Watch::begin(observed));
    if (!watch.ok()) std::abort();
    std::ifstream list("/proc/net/unix");
    const std::string mine = fmt::format("@{}{}-{}-", kStatusSocketPrefix, ::geteuid(), ::getpid());
    for (std::string line; std::getline(list, line);) {
      const size_t at = line.find(mine);
      if (at != std::string::npos) return new std::string(line.substr(at + 1));
    }
    std::abort();
  }();
  return name;
}

}  // namespace

std::vector<fuzz::Input> tutti::fuzz::seeds() {
  const Input right(kStatusRequest.begin(), kStatusRequest.end());
  const Input early(right.begin(), right.end() - 3);
  return {Input{4} + right, Input{255} + right + right, Input{2} + early, Input{9} + Input(100, 'x')};
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzz::Choices input(data, size);
  const size_t piece = input.byte() + size_t{1};
  const auto bytes = input.some(SIZE_MAX);
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  const bool right = text.starts_with(kStatusRequest) && text.size() <= kMostRequestBytes;
  fuzz::require((parse_status_request(text) == StatusRequest::Status) == right, "other words were taken for a request");

  const UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string& name = service_name();
  std::memcpy(address.sun_path + 1, name.data(), name.size());
  const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
  fuzz::require(::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), length) == 0,
                "the service is gone");
  for (size_t at = 0; at < bytes.size(); at += piece) {
    const size_t now = std::min(piece, bytes.size() - at);
    if (::send(socket.get(), bytes.data() + at, now, MSG_NOSIGNAL) < 0) break;  // it has heard enough
  }
  ::shutdown(socket.get(), SHUT_WR);
  std::array<char, 4096> answer;
  size_t answered = 0;
  for (ssize_t got; (got = ::recv(socket.get(), answer.data(), answer.size(), 0)) > 0;)
    answered += static_cast<size_t>(got);
  // In pieces the request may be whole before the rest is seen, so more words may be heard out than the parser takes.
  fuzz::require(answered == 0 || text.starts_with(kStatusRequest), "a stranger's words were answered");
  return 0;
}
