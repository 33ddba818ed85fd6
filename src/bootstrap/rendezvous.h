// SPDX-License-Identifier: Apache-2.0
// Rendezvous: where the ranks of a communicator find each other, once.
//
// One thread in one process (that of tuttiGetUniqueId, or rank 0 of an environment launch) collects a request from each
// rank. It answers rank 0 with the table of all, the others with who in the tree passes it on to them, or all with the
// reason why there is none. Afterwards the ranks talk to each other directly (bootstrap.h) and the thread ends.
//
//   Gathering --all here, no conflict--> Answering --all connected--> over
//       |                                    '--a rank gone before it was connected--v
//       |--conflict--> Settling --a moment later----------------------------> Lingering --linger_ms--> over
//       '--a rank missing at the timeout, or gone-----------------------------------^
//
// A rank keeps its connection here until it is connected with its neighbours, and then says so with one byte (its own
// end could not tell a rank that is done from one that died). Settling waits for more requests, so that "most have 8,
// but rank 3 has 4" names the odd one and not the majority. Lingering tells ranks that come late what happened.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/deadline.h"
#include "base/status.h"
#include "bootstrap/messages.h"
#include "bootstrap/unique_id.h"
#include "net/door.h"
#include "net/frame.h"

namespace tutti {

class Rendezvous {
 public:
  struct Options {
    Secret secret;
    int64_t linger_ms = 30'000;
    int64_t settle_ms = 300;
  };

  static Result<std::unique_ptr<Rendezvous>> open(const Options& options, const std::vector<SocketAddress>& addresses,
                                                  uint16_t port);
  uint16_t port() const { return port_; }
  // Serves until it is over. Blocks; while nobody comes it sleeps in poll(2).
  void run();
  // Runs in a detached thread that blocks all signals and owns the rendezvous.
  static Status run_in_background(std::unique_ptr<Rendezvous> rendezvous);

 private:
  enum class Phase : uint8_t { Gathering, Settling, Answering, Lingering, Over };
  struct Visitor {
    enum class Phase : uint8_t { Reading, Waiting, Answering, Connecting, Gone };
    explicit Visitor(Guest arrived);

    // Reading and Answering have to get on.
    bool hurried() const { return phase == Phase::Reading || phase == Phase::Answering; }

    Guest guest;
    bool ready = true;  // its socket has news
    Phase phase = Phase::Reading;
    Deadline deadline;  // Reading, Answering
    FrameReader reader{kMaxRequestBytes};
    std::optional<FrameWriter> writer;
    Frame answer;      // answer_, when the writer began
    std::string text;  // for messages
  };

  Rendezvous(const Options& options, Door door) : options_(options), door_(std::move(door)), port_(door_->port()) {}
  void wait();
  void admit();
  void advance(Visitor& visitor);
  void read_request(Visitor& visitor);
  void listen_to(Visitor& visitor);
  void lose(Visitor& visitor);
  void decide();
  void answer(Visitor& visitor);
  void answer_all(Phase phase, const Bytes& message);
  void refuse(const Status& why);

  Options options_;
  std::optional<Door> door_;  // none once nobody else may come
  uint16_t port_;
  Phase phase_ = Phase::Gathering;
  Deadline deadline_ = Deadline::never();  // of the phase; Gathering: when missing ranks are given up
  int64_t patience_ms_ = -1;               // of which the deadline was made
  std::vector<std::unique_ptr<Visitor>> visitors_;
  std::vector<JoinRequest> requests_;  // in order of arrival
  std::set<int> ranks_;                // of the requests
  bool suspicious_ = false;            // a request does not fit the others
  Frame answer_;                       // Answering, Lingering
};

// tuttiGetUniqueId: a rendezvous in the background of this process, and the id that leads there.
Result<UniqueId> start_rendezvous();

}  // namespace tutti
