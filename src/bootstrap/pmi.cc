// SPDX-License-Identifier: Apache-2.0
// See pmi.h.
#include "bootstrap/pmi.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>

namespace tutti {
namespace {

constexpr size_t kLongestLine = 16 << 10;
constexpr const char* kKey = "tutti-meeting";

class Talk {
 public:
  Talk(int fd, const Deadline& deadline) : fd_(fd), deadline_(deadline) {}

  // Sends a command; the answer has to be of this kind, and good.
  Result<std::string> ask(std::string command, std::string_view answer) {
    command += '\n';
    for (size_t sent = 0; sent < command.size();) {
      // A socket: one that the launcher has closed must be an error, not a signal.
      ssize_t count = ::send(fd_, command.data() + sent, command.size() - sent, MSG_NOSIGNAL);
      if (count < 0 && errno == ENOTSOCK) count = ::write(fd_, command.data() + sent, command.size() - sent);
      if (count < 0 && (errno == EAGAIN || errno == EINTR)) {
        TUTTI_TRY(wait(POLLOUT));
        continue;
      }
      if (count < 0) return errno_status("write", "the launcher (PMI_FD)");
      sent += static_cast<size_t>(count);
    }
    TUTTI_ASSIGN_OR_RETURN(std::string line, read_line());
    const std::string_view rc = pmi_value(line, "rc");
    if (pmi_value(line, "cmd") != answer || (!rc.empty() && rc != "0"))
      return remote_error("the launcher (PMI_FD) answers '{}' to '{}'", line, command.substr(0, command.find('\n')));
    return line;
  }

 private:
  Status wait(short events) {
    if (deadline_.passed())
      return remote_error(
          "the launcher (PMI_FD) does not answer: have all ranks been started? TUTTI_INIT_TIMEOUT sets the wait");
    pollfd item{fd_, events, 0};
    constexpr int kLookMs = 1000;
    (void)::poll(&item, 1, deadline_.poll_ms(kLookMs));
    return {};
  }
  Result<std::string> read_line() {
    for (;;) {
      if (const size_t end = received_.find('\n'); end != std::string::npos) {
        std::string line = received_.substr(0, end);
        received_.erase(0, end + 1);
        return line;
      }
      pollfd item{fd_, POLLIN, 0};
      if (::poll(&item, 1, 0) <= 0) {
        TUTTI_TRY(wait(POLLIN));
        continue;
      }
      char piece[1024];
      const ssize_t count = ::read(fd_, piece, sizeof piece);
      if (count < 0 && (errno == EAGAIN || errno == EINTR)) continue;
      if (count < 0) return errno_status("read", "the launcher (PMI_FD)");
      if (count == 0) return remote_error("the launcher closed PMI_FD");
      received_.append(piece, static_cast<size_t>(count));
      if (received_.size() > kLongestLine) return remote_error("the launcher (PMI_FD) sends a line without an end");
    }
  }

  int fd_;
  Deadline deadline_;
  std::string received_;
};

}  // namespace

std::string_view pmi_value(std::string_view line, std::string_view name) {
  while (!line.empty()) {
    const std::string_view word = line.substr(0, line.find(' '));
    line.remove_prefix(word.size() < line.size() ? word.size() + 1 : line.size());
    if (word.size() > name.size() && word.substr(0, name.size()) == name && word[name.size()] == '=')
      return word.substr(name.size() + 1);
  }
  return {};
}

Result<std::string> share_by_pmi(int fd, int rank, const std::string& mine, const Deadline& deadline) {
  Talk talk(fd, deadline);
  TUTTI_TRY(talk.ask("cmd=init pmi_version=1 pmi_subversion=1", "response_to_init"));
  TUTTI_ASSIGN_OR_RETURN(const std::string named, talk.ask("cmd=get_my_kvsname", "my_kvsname"));
  const std::string space(pmi_value(named, "kvsname"));
  if (rank == 0)
    TUTTI_TRY(talk.ask(fmt::format("cmd=put kvsname={} key={} value={}", space, kKey, mine), "put_result"));
  TUTTI_TRY(talk.ask("cmd=barrier_in", "barrier_out"));
  TUTTI_ASSIGN_OR_RETURN(const std::string got,
                         talk.ask(fmt::format("cmd=get kvsname={} key={}", space, kKey), "get_result"));
  TUTTI_TRY(talk.ask("cmd=finalize", "finalize_ack"));
  return std::string(pmi_value(got, "value"));
}

}  // namespace tutti
