// SPDX-License-Identifier: Apache-2.0
// What a launcher answers on PMI_FD: lines in pieces of any length, and then its end. A value comes from a line of it.
#include <sys/socket.h>

#include <string>

#include "base/handle.h"
#include "bootstrap/pmi.h"
#include "fuzz/target.h"

using namespace tutti;

namespace {

fuzz::Input text(const std::string& lines) { return {lines.begin(), lines.end()}; }

}  // namespace

std::vector<fuzz::Input> tutti::fuzz::seeds() {
  const std::string begin = "cmd=response_to_init pmi_version=1 pmi_subversion=1 rc=0\ncmd=my_kvsname kvsname=kvs_7\n";
  const std::string put = "cmd=put_result rc=0 msg=success\n";
  const std::string end = "cmd=barrier_out\ncmd=get_result rc=0 value=cafe\ncmd=finalize_ack\n";
  return {Input{0} + text(begin + put + end), Input{1} + text(begin + end),
          Input{0} + text(begin + "cmd=put_result rc=-1"),
          Input{1} + text(begin + "cmd=barrier_out\ncmd=get_result rc=1 msg=key_not_found value=unknown\n"),
          Input{1} + text("cmd=response_to_init rc=0 " + std::string(200, 'x'))};
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzz::Choices input(data, size);
  const int rank = input.byte() % 2;
  const auto bytes = input.some(64 << 10);  // what the socket holds, whoever reads
  const std::string_view answers(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  for (const char* name : {"cmd", "rc", "value"}) {
    const std::string_view value = pmi_value(answers, name);
    fuzz::require(value.empty() || (value.data() > answers.data() && value.find(' ') == value.npos),
                  "a value that is no word of its line");
  }
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) std::abort();
  const UniqueFd launcher(ends[0]), client(ends[1]);
  if (::send(launcher.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT) !=
      static_cast<ssize_t>(bytes.size()))
    return 0;
  ::shutdown(launcher.get(), SHUT_WR);
  constexpr int kLongMs = 60'000;
  const Result<std::string> shared = share_by_pmi(client.get(), rank, "cafe", Deadline::in_ms(kLongMs));
  if (shared.ok()) {
    fuzz::require(shared->find_first_of(" \n") == std::string::npos, "a value of more than a word");
    fuzz::require(shared->empty() || answers.find("value=" + *shared) != answers.npos, "a value that nobody sent");
  }
  return 0;
}
