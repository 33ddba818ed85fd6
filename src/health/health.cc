// SPDX-License-Identifier: Apache-2.0
// What is concluded from boards (health.h).
#include "health/health.h"

#include <fmt/format.h>
#include <time.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <new>

#include "base/fork.h"
#include "base/log.h"
#include "bootstrap/messages.h"

namespace tutti {
namespace {

constexpr size_t kMostEpisodes = 8;
constexpr size_t kMostNamed = 4;  // ranks described one by one in a message

// All communicators of this process: a thread that waits in one says so on the boards of all that it serves. Never
// destroyed.
struct Everyone {
  std::mutex mutex;
  std::vector<Health*> all;
};
Everyone& everyone() {
  static Everyone& only = *[] {
    auto* const made = new Everyone;
    guard_at_fork(made->mutex);
    return made;
  }();
  return only;
}

void nap_ms(long ms) {
  timespec pause{0, ms * 1'000'000};
  nanosleep(&pause, nullptr);
}

// Ranks of other hosts that were asked and have not answered for kSilentMs.
std::vector<int> silent_ranks(const PeerWatch* watch, int me, const std::vector<bool>& mapped) {
  std::vector<int> silent;
  for (int rank = 0; watch != nullptr && rank < static_cast<int>(mapped.size()); ++rank) {
    if (rank == me || mapped[static_cast<size_t>(rank)]) continue;
    if (board_clock_ms() - watch->heard_ms(rank) > Health::kSilentMs) silent.push_back(rank);
  }
  return silent;
}

std::string text_of_silence(const std::vector<int>& ranks) {
  return fmt::format("rank{} {} {} not answer (stopped, or no way to get there)", ranks.size() > 1 ? "s" : "",
                     text_of_ranks(ranks), ranks.size() > 1 ? "do" : "does");
}

std::string text_of_hop(const BoardHop& hop) {
  return fmt::format("rank {} of {} in {} waits for rank {}", hop.rank,
                     std::string_view(hop.name.data(), strnlen(hop.name.data(), hop.name.size())), describe(hop.call),
                     hop.waits_for_rank);
}

}  // namespace

Health::Health(Options options, std::vector<Board*> pages, std::function<bool(int)> alive)
    : options_(std::move(options)), boards_(std::move(pages)), alive_(std::move(alive)) {
  const auto local = std::count(boards_.begin(), boards_.end(), nullptr);
  if (local > 0) {
    // Untouched pages of a large calloc cost nothing.
    local_.reset(static_cast<Board*>(std::calloc(static_cast<size_t>(local), sizeof(Board))));
    if (local_ == nullptr) throw std::bad_alloc();
  }
  Board* next = local_.get();
  for (Board*& board : boards_) {
    mapped_.push_back(board != nullptr);
    if (board == nullptr) board = next++;
  }
  pairs_.resize(boards_.size() * 2);
  board_ = BoardWriter(boards_[static_cast<size_t>(options_.rank)]);
  board_.join(options_.rank, size(), options_.name);
  Everyone& all = everyone();
  const std::lock_guard lock(all.mutex);
  all.all.push_back(this);
}

Health::~Health() {
  watch_.reset();
  Everyone& all = everyone();
  const std::lock_guard lock(all.mutex);
  std::erase(all.all, this);
}

Status Health::watch_others(Bootstrap& bootstrap, const Deadline& deadline) {
  PeerWatch::Boards boards{boards_, mapped_};
  TUTTI_ASSIGN_OR_RETURN(watch_, PeerWatch::open(bootstrap, std::move(boards), deadline));
  return {};
}

Health::Episode& Health::episode(const StuckCall& stuck, uint64_t now) {
  for (Episode& one : episodes_) {
    if (one.number == stuck.call.number && one.message == stuck.message) return one;
  }
  if (episodes_.size() == kMostEpisodes) episodes_.erase(episodes_.begin());
  Episode fresh;
  fresh.number = stuck.call.number;
  fresh.message = stuck.message;
  fresh.since = now;
  episodes_.push_back(fresh);
  return episodes_.back();
}

Status Health::look(StuckCall stuck, const std::function<std::string()>& waiting_for) {
  const uint64_t now = board_clock_ms();
  if (stuck.message)
    stuck.call.message =
        pairs_[static_cast<size_t>(stuck.call.root) * 2 + ((stuck.call.flags & BoardCall::kIsSend) != 0)];
  Episode& one = episode(stuck, now);
  if (now < one.next_look) return {};
  one.next_look = now + kLookMs;
  TUTTI_TRY(find_failure());
  // Looks may be far apart on a busy machine: then the first one already knows that the wait is long.
  const bool waits = now - one.since >= kWaitMs || stuck.idle_ms >= static_cast<int64_t>(kWaitMs);
  if (!waits && stuck.mismatched < 0) return {};
  // From here on lines are read that a peer may be writing: not in a wait that may end at any moment.
  TUTTI_TRY(find_mismatch(stuck, one, now));
  if (!waits) return {};
  if (watch_ != nullptr && now >= one.next_ask) {
    one.next_ask = now + kAskMs;
    watch_->ask();
  }
  TUTTI_TRY(find_left(stuck));
  if (now >= one.next_death) {
    one.next_death = now + kDeathMs;
    TUTTI_TRY(find_death(true));
    TUTTI_TRY(find_cycle(stuck, one, now));
  }
  if (options_.warn_ms >= 0 && stuck.idle_ms > options_.warn_ms && !one.warned) {
    one.warned = true;
    log_warn(Subsystem::Health, "{}: {} has waited {} ms in {}{}", options_.name, text_of(options_.rank), stuck.idle_ms,
             describe(stuck.call), whom(stuck, waiting_for()));
  }
  if (options_.timeout_ms >= 0 && stuck.idle_ms > options_.timeout_ms) {
    return remote_error("{}: rank {} gave up {} after {} ms without any progress (TUTTI_TIMEOUT){}", options_.name,
                        options_.rank, describe(stuck.call), options_.timeout_ms, whom(stuck, waiting_for()));
  }
  return {};
}

Status Health::find_lost() {
  // A process that is gone may have failed because of another: its board says so.
  TUTTI_TRY(find_failure());
  return find_death(true);
}

Status Health::explain(const Status& lost) {
  if (watch_ == nullptr) {
    TUTTI_TRY(find_lost());
    return lost;
  }
  constexpr uint64_t kPatienceMs = 300;
  const uint64_t until = board_clock_ms() + kPatienceMs;
  watch_->ask();
  do {
    TUTTI_TRY(find_death(true));
    TUTTI_TRY(find_failure());
    nap_ms(5);
  } while (board_clock_ms() < until);
  // A peer that seems lost may only be the next in a row: it waits for somebody who does not answer.
  const std::vector<int> silent = silent_ranks(watch_.get(), options_.rank, mapped_);
  if (silent.empty()) return lost;
  return Status(lost.code(), fmt::format("{}; {}", lost.message(), text_of_silence(silent)));
}

void Health::failed(const Status& why) {
  if (said_failure_) return;
  said_failure_ = true;
  // A finding names ranks and is true for all; what went wrong here needs to say where.
  const bool neutral = why.message().starts_with(options_.name + ": ");
  board_.fail(why, !neutral);
  if (watch_ != nullptr) watch_->announce();
}

void Health::leave() {
  board_.leave();
  if (watch_ != nullptr) watch_->announce();
}

std::string Health::activity(int rank) const {
  const Board& board = *boards_[static_cast<size_t>(rank)];
  const RankView view = read_board(board);
  if (!view.joined) return "on another host, not heard yet";
  std::string text = view.text();
  if (view.wait.since_ms == 0 || view.wait.chain.empty()) return text;
  // Whom it waits for in its turn; its thread may be elsewhere, in another communicator.
  const bool elsewhere = !view.in_collective() && !view.in_message();
  text += elsewhere ? "; its thread is in another communicator" : "; it waits in its turn";
  for (size_t i = 0; i < view.wait.chain.size(); ++i)
    text += fmt::format("{} {}", i == 0 ? ":" : ",", text_of_hop(view.wait.chain[i]));
  return text;
}

// ---- failures and deaths ----

Status Health::find_failure() {
  for (int rank = 0; rank < size(); ++rank) {
    const Board& board = *boards_[static_cast<size_t>(rank)];
    if (rank == options_.rank || (board_state(board) & Board::Failed) == 0) continue;
    const RankView view = read_board(board);
    if (view.failure_is_local) return remote_error("{}: {} has failed: {}", options_.name, text_of(rank), view.failure);
    return Status(view.failure_code == Code::Ok ? Code::RemoteError : view.failure_code, view.failure);
  }
  return {};
}

Status Health::death_of(int rank) const {
  // The board of another host is as old as the rank's last pulse.
  const std::string age = mapped_[static_cast<size_t>(rank)] ? "" : ", when last heard";
  return remote_error("{}: {} has died, {}{}: its process ended without tuttiCommDestroy; see its own output",
                      options_.name, text_of(rank), activity(rank), age);
}

Status Health::find_death(bool ask_kernel) {
  for (int rank = 0; rank < size(); ++rank) {
    if (rank == options_.rank) continue;
    const Board& board = *boards_[static_cast<size_t>(rank)];
    const bool mapped = mapped_[static_cast<size_t>(rank)];
    const bool gone = mapped ? ask_kernel && !alive_(rank) : watch_ != nullptr && watch_->dead(rank);
    // It said that it leaves before it let go.
    if (gone && (board_state(board) & Board::Left) == 0) return death_of(rank);
  }
  return {};
}

Status Health::find_left(const StuckCall& stuck) const {
  for (const int rank : missing(stuck)) {
    const Board& board = *boards_[static_cast<size_t>(rank)];
    if ((board_state(board) & Board::Left) == 0) continue;
    return remote_error(
        "{}: {} has destroyed its communicator ({}), but {}{} needs it: all ranks must issue the same calls",
        options_.name, text_of(rank), activity(rank), describe(stuck.call),
        stuck.message ? std::string() : fmt::format(", #{},", stuck.call.number));
  }
  return {};
}

// ---- mismatch ----

Status Health::find_mismatch(const StuckCall& stuck, Episode& episode, uint64_t now) {
  if (stuck.message) {
    const bool is_send = (stuck.call.flags & BoardCall::kIsSend) != 0;
    const int peer = stuck.call.root;
    const auto theirs = find_message(*boards_[static_cast<size_t>(peer)], !is_send, options_.rank, stuck.call.message);
    // Messages of different protocols do not even meet in a slot: then only the board tells.
    if (stuck.mismatched < 0 && (!theirs || theirs->identity == stuck.call.identity)) return {};
    if (episode.mismatch_since == 0) episode.mismatch_since = now;
    if (!theirs && now - episode.mismatch_since < kSettleMs) {
      if (watch_ != nullptr && now >= episode.next_ask) {
        episode.next_ask = now + kAskMs;
        watch_->ask();
      }
      return {};
    }
    return invalid_usage(
        "{}: mismatch in message {} from rank {} to rank {}: rank {} called {}, rank {} called {}: give both the same "
        "count and type",
        options_.name, stuck.call.message, is_send ? options_.rank : peer, is_send ? peer : options_.rank,
        options_.rank, describe(stuck.call), peer, theirs ? describe(*theirs) : "something else");
  }
  // The first call that was not the same everywhere, as far back as boards go: ranks may have come through it, and
  // wait in a later one for what never comes.
  const uint64_t here = stuck.call.number;
  uint64_t number = here < Board::kCollectives ? 1 : here - Board::kCollectives + 1;
  std::vector<CallGroup> groups;
  for (; number <= here; ++number) {
    groups = groups_of(number);
    if (groups.size() > 1) break;
  }
  if (groups.size() < 2 && stuck.mismatched < 0) return {};
  if (episode.mismatch_since == 0) episode.mismatch_since = now;
  if (watch_ != nullptr && now >= episode.next_ask) {
    episode.next_ask = now + kAskMs;
    watch_->ask();
  }
  number = std::min(number, here);
  // Those of no group, not those that a second look would find without a call: boards change meanwhile.
  std::vector<int> absent;
  for (int rank = 0; rank < size(); ++rank) {
    const bool grouped = std::any_of(groups.begin(), groups.end(), [rank](const CallGroup& group) {
      return std::find(group.ranks.begin(), group.ranks.end(), rank) != group.ranks.end();
    });
    if (!grouped) absent.push_back(rank);
  }
  // The others will be here in a moment, unless they are late for another reason.
  const bool complete = absent.empty() && groups.size() > 1;
  if (!complete && now - episode.mismatch_since < kSettleMs) return {};
  std::string text;
  for (const CallGroup& group : groups) {
    text += fmt::format("{}rank{} {}: {}", text.empty() ? "" : "; ", group.ranks.size() > 1 ? "s" : "",
                        text_of_ranks(group.ranks), describe(group.call));
  }
  if (groups.size() < 2) text += fmt::format("; rank {}: another one", stuck.mismatched);
  if (!absent.empty())
    text += fmt::format("; rank{} {}: not there yet", absent.size() > 1 ? "s" : "", text_of_ranks(absent));
  return invalid_usage(
      "{}: mismatch at collective #{}: {}. All ranks must issue the same calls with the same counts, types, operators "
      "and roots, in the same order",
      options_.name, number, text);
}

// The ranks by what they called at this number, in rank order; those that did not, or no longer say so, are left out.
std::vector<Health::CallGroup> Health::groups_of(uint64_t number) const {
  std::vector<CallGroup> groups;
  for (int rank = 0; rank < size(); ++rank) {
    const auto call = find_collective(*boards_[static_cast<size_t>(rank)], number);
    if (!call) continue;
    const auto same = std::find_if(groups.begin(), groups.end(),
                                   [&](const CallGroup& one) { return one.call.identity == call->identity; });
    if (same != groups.end()) {
      same->ranks.push_back(rank);
    } else {
      groups.push_back({*call, {rank}});
    }
  }
  return groups;
}

// ---- missing, and ranks that wait for each other ----

std::vector<int> Health::missing(const StuckCall& stuck) const {
  std::vector<int> ranks;
  if (stuck.message) {
    const int peer = stuck.call.root;
    const bool is_send = (stuck.call.flags & BoardCall::kIsSend) != 0;
    if (!find_message(*boards_[static_cast<size_t>(peer)], !is_send, options_.rank, stuck.call.message))
      ranks.push_back(peer);
    return ranks;
  }
  for (int rank = 0; rank < size(); ++rank) {
    if (rank == options_.rank) continue;
    const RankView view = read_board(*boards_[static_cast<size_t>(rank)]);
    if (view.joined && view.last_collective.number < stuck.call.number) ranks.push_back(rank);
  }
  return ranks;
}

std::string Health::whom(const StuckCall& stuck, const std::string& waiting_for) const {
  std::vector<int> late = missing(stuck);
  const std::vector<int> silent = silent_ranks(watch_.get(), options_.rank, mapped_);
  std::string text =
      stuck.message ? fmt::format(", message {}", stuck.call.message) : fmt::format(", #{}", stuck.call.number);
  if (!silent.empty()) text += fmt::format(": {}", text_of_silence(silent));
  std::erase_if(late, [&](int rank) { return std::find(silent.begin(), silent.end(), rank) != silent.end(); });
  if (late.empty()) {
    text += fmt::format(": it waits for {}", waiting_for);
    std::string others;
    for (int rank = 0; rank < size(); ++rank) {
      if (rank == options_.rank || others.size() > Board::kMaxFailure / 2) continue;
      const RankView view = read_board(*boards_[static_cast<size_t>(rank)]);
      if (view.joined) others += fmt::format("; rank {} is {}", rank, view.text());
    }
    return text + others;
  }
  text += fmt::format(": rank{} {} {} not joined it", late.size() > 1 ? "s" : "", text_of_ranks(late),
                      late.size() > 1 ? "have" : "has");
  for (size_t i = 0; i < std::min(late.size(), kMostNamed); ++i)
    text += fmt::format("; {} is alive, {}", text_of(late[i]), activity(late[i]));
  return text;
}

BoardWait Health::say_wait(const StuckCall& stuck, const std::vector<int>& late, const Episode& episode) {
  BoardWait wait;
  wait.since_ms = episode.since;
  wait.message = stuck.message;
  wait.number = stuck.call.number;
  wait.rank = stuck.message ? stuck.call.root : late.empty() ? -1 : late.front();
  const uint64_t me = this_thread_token();
  const auto closes = [&](const std::vector<BoardHop>& chain) {
    const BoardHop& last = chain.back();
    return chain.size() > 1 &&
           (last.waits_for == me || (last.comm == options_.tag && last.waits_for_rank == options_.rank));
  };
  for (const int rank : late) {
    const RankView view = read_board(*boards_[static_cast<size_t>(rank)]);
    if (!view.joined) continue;
    BoardHop hop;
    hop.thread = me;
    hop.waits_for = view.thread;
    hop.rank = options_.rank;
    hop.waits_for_rank = rank;
    hop.call = stuck.call;
    hop.comm = options_.tag;
    std::copy_n(options_.name.data(), std::min(options_.name.size(), hop.name.size()), hop.name.data());
    std::vector<BoardHop> chain{hop};
    if (view.wait.since_ms != 0 && !view.wait.chain.empty()) {
      for (const BoardHop& next : view.wait.chain) {
        if (closes(chain) || chain.size() == Board::kMaxHops) break;
        chain.push_back(next);
      }
    }
    const bool cycle = closes(chain);
    if (chain.size() > wait.chain.size() || cycle) {
      wait.chain = std::move(chain);
      wait.rank = rank;
    }
    if (cycle) break;
  }
  Everyone& all = everyone();
  const std::lock_guard lock(all.mutex);
  board_.caller(me);
  for (Health* one : all.all) {
    if (one == this || one->serves_other_waits_of(me)) one->board_.wait(wait);
  }
  said_wait_.store(true, std::memory_order_relaxed);
  return wait;
}

// Its calls are made by that thread, and none of them waits: what the thread waits for elsewhere is news here.
bool Health::serves_other_waits_of(uint64_t thread) const {
  return own_board().words[Board::kThread] == thread && !said_wait_.load(std::memory_order_relaxed);
}

void Health::stop_waiting() {
  said_wait_.store(false, std::memory_order_relaxed);
  episodes_.clear();
  const uint64_t me = this_thread_token();
  Everyone& all = everyone();
  const std::lock_guard lock(all.mutex);
  for (Health* one : all.all) {
    if (one == this || one->serves_other_waits_of(me)) one->board_.wait({});
  }
}

Status Health::find_cycle(const StuckCall& stuck, Episode& episode, uint64_t now) {
  const std::vector<int> late = missing(stuck);
  const BoardWait mine = say_wait(stuck, late, episode);
  // Within one communicator it is ranks that wait, whatever threads carry their calls.
  bool one_communicator = mine.chain.size() > 1 && mine.chain.back().waits_for_rank == options_.rank;
  for (size_t i = 0; i < mine.chain.size(); ++i) {
    one_communicator &= mine.chain[i].comm == options_.tag;
    one_communicator &= i == 0 || mine.chain[i].rank == mine.chain[i - 1].waits_for_rank;
  }
  // What comes from another host may be old, so it is judged by what cannot have changed: the last rank waits for a
  // message of mine, and I have not come to it. (A cycle of collectives alone cannot be: their numbers would have to
  // grow all the way round.) Those in between must be seen to wait still.
  if (one_communicator) {
    const BoardCall& last = mine.chain.back().call;
    const bool theirs_is_send = (last.flags & BoardCall::kIsSend) != 0;
    const size_t pair = static_cast<size_t>(mine.chain.back().rank) * 2 + (theirs_is_send ? 0 : 1);
    one_communicator = last.message != 0 && pair < pairs_.size() && pairs_[pair] < last.message;
    for (size_t i = 1; i + 1 < mine.chain.size() && one_communicator; ++i) {
      const auto rank = static_cast<size_t>(mine.chain[i].rank);
      one_communicator = rank < mapped_.size() && mapped_[rank];
      if (!one_communicator) break;
      const BoardWait wait = read_board(*boards_[rank]).wait;
      one_communicator = wait.since_ms != 0 && wait.number == mine.chain[i].call.number && !wait.chain.empty() &&
                         wait.chain.front().comm == options_.tag;
    }
  }
  const bool closed = mine.chain.size() > 1 && mine.chain.back().waits_for == mine.chain.front().thread;
  if (!one_communicator && !closed) {
    episode.cycle_since = 0;
    return {};
  }
  if (episode.cycle_since == 0) episode.cycle_since = now;
  if (now - episode.cycle_since < kSettleMs) return {};
  std::string text;
  for (const BoardHop& hop : mine.chain) text += (text.empty() ? "" : "; ") + text_of_hop(hop);
  // Calls of one communicator run in the order of their issue: none of these threads can do what another waits for.
  // Across communicators another thread of the process might, so it is said and not judged.
  if (one_communicator)
    return invalid_usage(
        "{}: ranks wait for each other: {}. Issue the calls in the same order on all ranks, or in one group",
        options_.name, text);
  const bool due = options_.check_cycles || (options_.warn_ms >= 0 && stuck.idle_ms > options_.warn_ms);
  if (due && !episode.cycle_said) {
    episode.cycle_said = true;
    log_warn(
        Subsystem::Health,
        "ranks wait for each other across communicators: {}. Issue the calls of different communicators in an order "
        "on which all ranks agree, or in one group",
        text);
  }
  return {};
}

}  // namespace tutti
