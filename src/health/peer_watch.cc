// SPDX-License-Identifier: Apache-2.0
// The tree of sockets and the thread that serves it (peer_watch.h).
#include "health/peer_watch.h"

#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <deque>
#include <mutex>
#include <optional>
#include <system_error>
#include <thread>
#include <utility>

#include "base/fork.h"
#include "base/log.h"
#include "net/frame.h"
#include "net/socket.h"
#include "net/wire.h"

namespace tutti {
namespace {

constexpr uint8_t kAsk = 1, kBoard = 2, kDead = 3, kPulse = 4;
constexpr uint32_t kMostBytes = Board::kBytes + 64;
// Frames that wait for a neighbour that does not read (stopped): beyond this, boards are dropped, deaths are not.
constexpr size_t kMostWaiting = 64;
constexpr uint64_t kAnswerMs = 50;     // no more than one answer in this time
constexpr uint64_t kFarewellMs = 200;  // for what was announced to leave

int parent_of(int rank) { return (rank - 1) / 2; }

Frame make_news(uint8_t kind, int rank, const Board* board) {
  ByteWriter writer;
  writer.number(kind);
  writer.number(static_cast<int32_t>(rank));
  writer.number(board_clock_ms());
  if (board != nullptr) {
    Board whole{};
    copy_board(whole, *board, 0);
    writer.raw(std::as_bytes(std::span(whole.words)));
  }
  return make_frame(writer.bytes());
}

// Calls posted and ended: grow with all that a rank does.
using CallCounts = std::pair<uint64_t, uint64_t>;
CallCounts counts_of(const Board& board) {
  const RankView view = read_board(board);
  return {view.last_collective.number + view.last_message.number, view.collectives_ended + view.messages_ended};
}

}  // namespace

struct PeerWatch::Group {
  struct Neighbour {
    int rank = -1;
    UniqueFd fd;
    FrameReader reader{kMostBytes};
    std::deque<FrameWriter> out;
  };

  int rank = 0;
  std::vector<Member> members;
  Boards boards;
  std::vector<Neighbour> neighbours;
  std::vector<std::atomic<bool>> dead, left;
  std::vector<std::atomic<uint64_t>> heard;
  std::atomic<bool> ask{false}, announce{false};
  bool owes_answer = false;
  uint64_t answered_ms = 0, pulsed_ms = 0;
  std::optional<CallCounts> pulsed;  // at the last pulse

  explicit Group(size_t ranks) : dead(ranks), left(ranks), heard(ranks) {}

  void tell(const Frame& frame, bool droppable, int except = -1) {
    for (Neighbour& one : neighbours) {
      if (!one.fd || one.rank == except || (droppable && one.out.size() >= kMostWaiting)) continue;
      one.out.emplace_back(frame);
    }
  }
  void lose(Neighbour& neighbour) {
    neighbour.fd = UniqueFd();
    neighbour.out.clear();
    const auto rank = static_cast<size_t>(neighbour.rank);
    if (left[rank].load(std::memory_order_relaxed)) return;
    note_death(neighbour.rank, neighbour.rank);
  }
  void note_death(int rank_lost, int from) {
    if (dead[static_cast<size_t>(rank_lost)].exchange(true, std::memory_order_release)) return;
    tell(make_news(kDead, rank_lost, boards.pages[static_cast<size_t>(rank_lost)]), false, from);
  }
  const Board& mine() const { return *boards.pages[static_cast<size_t>(rank)]; }
  // `page` is a rank's board as it was at `sent_at` of a clock of its host.
  void keep(size_t of, const Board& page, uint64_t sent_at) {
    if (!boards.mapped[of])
      copy_board(*boards.pages[of], page, static_cast<int64_t>(board_clock_ms()) - static_cast<int64_t>(sent_at));
  }
  void hear(Neighbour& from, const Bytes& body) {
    ByteReader reader(body);
    const auto kind = reader.number<uint8_t>();
    const auto origin = reader.number<int32_t>();
    const auto sent_at = reader.number<uint64_t>();
    if (!reader.ok() || origin < 0 || origin >= static_cast<int32_t>(members.size()) || origin == rank) return;
    const auto index = static_cast<size_t>(origin);
    if (kind == kAsk && reader.finished()) {
      owes_answer = true;
      tell(make_frame(body), true, from.rank);
      return;
    }
    if (reader.left() != sizeof(Board)) return;
    auto page = std::make_unique<Board>();
    const auto bytes = reader.raw(sizeof(Board));
    std::memcpy(page->words, bytes.data(), bytes.size());
    if (kind == kDead) {
      if (counts_of(*page) > counts_of(*boards.pages[index])) keep(index, *page, sent_at);
      note_death(origin, from.rank);
    } else if (kind == kBoard || kind == kPulse) {
      if ((board_state(*page) & Board::Left) != 0) left[index].store(true, std::memory_order_relaxed);
      heard[index].store(board_clock_ms(), std::memory_order_relaxed);
      keep(index, *page, sent_at);
      if (kind == kBoard) tell(make_frame(body), true, from.rank);
    }
  }
  // Moves what can move. Milliseconds until it wants to be called whatever happens.
  int serve() {
    if (ask.exchange(false, std::memory_order_acq_rel)) {
      tell(make_news(kAsk, rank, nullptr), true);
      owes_answer = true;  // the others may not have mine yet
    }
    for (Neighbour& one : neighbours) {
      while (one.fd) {
        const Result<Poll> heard = one.reader.advance(one.fd.get(), "a neighbour");
        if (!heard.ok()) {
          lose(one);
        } else if (*heard == Poll::Done) {
          const Bytes body = one.reader.take();
          one.reader = FrameReader(kMostBytes);
          hear(one, body);
        } else {
          break;
        }
      }
    }
    int again_ms = static_cast<int>(kPulseMs);
    const uint64_t now = board_clock_ms();
    if (announce.exchange(false, std::memory_order_acq_rel) || (owes_answer && now - answered_ms >= kAnswerMs)) {
      owes_answer = false;
      answered_ms = now;
      tell(make_news(kBoard, rank, &mine()), (board_state(mine()) & (Board::Left | Board::Failed)) == 0);
    } else if (owes_answer) {
      again_ms = static_cast<int>(kAnswerMs);
    } else {
      pulse(now);
    }
    push();
    return again_ms;
  }
  void pulse(uint64_t now) {
    if (now - pulsed_ms < kPulseMs) return;
    pulsed_ms = now;
    const CallCounts counts = counts_of(mine());
    if (counts == pulsed) return;
    pulsed = counts;
    tell(make_news(kPulse, rank, &mine()), true);
  }
  // True: nothing waits to leave.
  bool push() {
    bool all = true;
    for (Neighbour& one : neighbours) {
      while (one.fd && !one.out.empty()) {
        const Result<Poll> sent = one.out.front().advance(one.fd.get(), "a neighbour");
        if (!sent.ok()) {
          one.out.clear();  // what it said before it closed, perhaps that it leaves, is still to be read
        } else if (*sent == Poll::Done) {
          one.out.pop_front();
        } else {
          break;
        }
      }
      all &= one.out.empty();
    }
    return all;
  }
};

namespace {

// The thread, and all that it serves. Never destroyed; the thread lives while there is a group.
class Service {
 public:
  static Service& only() {
    static Service& one = *[] {
      auto* const made = new Service;
      guard_at_fork(made->mutex_);
      return made;
    }();
    return one;
  }

  Status add(PeerWatch::Group* group) {
    const std::lock_guard lifetime(lifetime_);
    if (!thread_.joinable()) {
      wake_ = UniqueFd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
      if (!wake_) return errno_status("eventfd", "the watch of ranks on other hosts");
      ending_ = false;
      sigset_t all, before;
      sigfillset(&all);
      pthread_sigmask(SIG_SETMASK, &all, &before);
      Status started;
      try {
        thread_ = std::thread([this] { work(); });
      } catch (const std::system_error& failure) {
        started = system_error(
            "cannot start the thread that watches ranks on other hosts: {}; raise the limit on "
            "processes (ulimit -u)",
            failure.what());
      }
      pthread_sigmask(SIG_SETMASK, &before, nullptr);
      TUTTI_TRY(started);
      pthread_setname_np(thread_.native_handle(), "tutti-watch");
    }
    {
      const std::lock_guard lock(mutex_);
      groups_.push_back(group);
    }
    wake();
    return {};
  }
  void remove(PeerWatch::Group* group) {
    const std::lock_guard lifetime(lifetime_);
    bool last = false;
    {
      const std::lock_guard lock(mutex_);
      std::erase(groups_, group);
      last = groups_.empty();
      ending_ = last;
    }
    if (!last) return;
    wake();
    thread_.join();
  }
  void wake() const {
    const uint64_t one = 1;
    (void)!::write(wake_.get(), &one, sizeof one);
  }

 private:
  void work() {
    std::vector<pollfd> items;
    for (;;) {
      int timeout_ms = -1;
      {
        const std::lock_guard lock(mutex_);
        if (ending_) return;
        uint64_t woken = 0;
        (void)!::read(wake_.get(), &woken, sizeof woken);
        items.assign(1, {wake_.get(), POLLIN, 0});
        for (PeerWatch::Group* group : groups_) {
          const int again_ms = group->serve();
          if (again_ms >= 0 && (timeout_ms < 0 || again_ms < timeout_ms)) timeout_ms = again_ms;
          for (const auto& one : group->neighbours) {
            if (one.fd)
              items.push_back({one.fd.get(), static_cast<short>(one.out.empty() ? POLLIN : POLLIN | POLLOUT), 0});
          }
        }
      }
      // What is ready is found by trying: a group may go, and its numbers become others', while this sleeps.
      (void)::poll(items.data(), items.size(), timeout_ms);
    }
  }

  std::mutex lifetime_;  // of the thread: taken first
  std::mutex mutex_;
  std::vector<PeerWatch::Group*> groups_;
  bool ending_ = false;
  UniqueFd wake_;
  std::thread thread_;
};

}  // namespace

PeerWatch::PeerWatch(std::unique_ptr<Group> group) : group_(std::move(group)) {}

Result<std::unique_ptr<PeerWatch>> PeerWatch::open(Bootstrap& bootstrap, Boards boards, const Deadline& deadline) {
  const int n = bootstrap.size(), me = bootstrap.rank();
  auto group = std::make_unique<Group>(static_cast<size_t>(n));
  group->rank = me;
  group->members = bootstrap.members();
  group->boards = std::move(boards);
  std::vector<int> awaited;
  std::optional<Dialer> dialer;
  if (me > 0) dialer.emplace(bootstrap.dial_options(parent_of(me), kPurposeWatch, deadline));
  for (const int child : {2 * me + 1, 2 * me + 2}) {
    if (child < n) awaited.push_back(child);
  }
  const auto add = [&](int rank, UniqueFd fd) {
    Group::Neighbour one;
    one.rank = rank;
    one.fd = std::move(fd);
    group->neighbours.push_back(std::move(one));
  };
  PeerListener& listener = bootstrap.listener();
  while (dialer || !awaited.empty()) {
    TUTTI_TRY(listener.poll());
    std::erase_if(awaited, [&](int child) {
      std::optional<UniqueFd> fd = listener.take(child, kPurposeWatch);
      if (fd) add(child, std::move(*fd));
      return fd.has_value();
    });
    if (dialer) {
      TUTTI_ASSIGN_OR_RETURN(const Poll dialed, dialer->advance());
      if (dialed == Poll::Done) {
        add(parent_of(me), dialer->take());
        dialer.reset();
      }
    }
    if (!dialer && awaited.empty()) break;
    if (deadline.passed()) {
      return remote_error(
          "{} did not connect for the watch in time; raise TUTTI_INIT_TIMEOUT if it is alive",
          group->members[static_cast<size_t>(awaited.empty() ? parent_of(me) : awaited.front())].text());
    }
    std::vector<pollfd> items;
    listener.add_poll(items);
    int timeout_ms = listener.poll_ms(deadline.poll_ms());
    if (dialer) {
      dialer->add_poll(items);
      timeout_ms = dialer->poll_ms(timeout_ms);
    }
    TUTTI_TRY(wait_on(items, timeout_ms));
  }
  std::unique_ptr<PeerWatch> watch(new PeerWatch(std::move(group)));
  if (Status added = Service::only().add(watch->group_.get()); !added.ok()) {
    watch->group_.reset();
    return added;
  }
  return watch;
}

PeerWatch::~PeerWatch() {
  if (group_ == nullptr) return;
  Service::only().remove(group_.get());
  // From here on the group is this thread's.
  const uint64_t until = board_clock_ms() + kFarewellMs;
  group_->serve();
  while (!group_->push() && board_clock_ms() < until) {
    std::vector<pollfd> items;
    for (const auto& one : group_->neighbours) {
      if (one.fd && !one.out.empty()) items.push_back({one.fd.get(), POLLOUT, 0});
    }
    (void)::poll(items.data(), items.size(), 10);
  }
}

uint64_t PeerWatch::heard_ms(int rank) const {
  return group_->heard[static_cast<size_t>(rank)].load(std::memory_order_relaxed);
}

void PeerWatch::ask() {
  group_->ask.store(true, std::memory_order_release);
  Service::only().wake();
}

void PeerWatch::announce() {
  group_->announce.store(true, std::memory_order_release);
  Service::only().wake();
}

bool PeerWatch::dead(int rank) const { return group_->dead[static_cast<size_t>(rank)].load(std::memory_order_acquire); }

}  // namespace tutti
