// SPDX-License-Identifier: Apache-2.0
// Every behaviour of the slot protocols in small cases: src/proto/slots.h itself, not a copy of it, over a memory that
// this file controls.
//
// An actor (the sender or a reader) advances by calls of slots.h and by plain accesses to a slot, one at a time. The
// explorer takes every interleaving of these steps and, within a step, every value that an atomic load may return: any
// value of the word's history that is not older than what the actor already knows to be overwritten (release/acquire
// semantics of C++; words here have one writer). Plain accesses must be ordered by happens-before, or it is a race.
// Checked: no race, the right bytes and identity, 0 <= tail - head <= slots, and that from every state the end can be
// reached, so nothing is ever stuck.
#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <functional>
#include <map>
#include <string>
#include <unordered_map>
#include <vector>

#include "proto/slots.h"  // over tests/transports/model/base/atomic.h

namespace tutti {
namespace {

constexpr int kMostActors = 3;
// How many release stores of each actor happen before now.
using Clock = std::array<uint8_t, kMostActors>;
void join(Clock& mine, const Clock& other) {
  for (int a = 0; a < kMostActors; ++a) mine[a] = std::max(mine[a], other[a]);
}

struct Version {
  uint64_t value;
  int writer;
  Clock clock;  // the writer's, at the store
};
// An atomic word: all its values, and how far each actor has got in seeing them.
struct Word {
  std::vector<Version> history;
  std::array<uint8_t, kMostActors> seen{};
};
// A range of plain memory.
struct Cell {
  int writer = -1;
  uint8_t written_at = 0;                      // the writer's own clock
  std::array<uint8_t, kMostActors> read_at{};  // each reader's own clock + 1; 0: not since the last write
};

// What changes along an execution, besides the bytes of the tracked memory.
struct State {
  std::array<Clock, kMostActors> clocks{};
  std::map<uint64_t, Word> words;  // by offset in the tracked memory
  std::map<uint64_t, Cell> cells;
  std::array<int, kMostActors> message{};  // each actor's place in its program
  std::array<int, kMostActors> step{};
};

class Explorer : public model::Memory {
 public:
  struct Options {
    bool release_publishes = true, acquire_learns = true;  // false: to see that the explorer finds what is missing
  };

  // `actors` run until all are at `messages`; `advance(actor)` makes one step of one of them. `objects` are the
  // endpoints: their bytes are part of the state.
  struct Case {
    int actors;
    int messages;
    std::function<void(int actor)> advance;
    std::vector<std::pair<void*, size_t>> objects;
    std::function<void()> check;
  };

  explicit Explorer(Options options) : options_(options) {}

  // Memory the case's FIFO lives in; ranges of it that can change are saved and restored.
  std::byte* base() { return memory_.data(); }
  void track(const void* at, size_t bytes) {
    tracked_.push_back({static_cast<std::byte*>(const_cast<void*>(at)), bytes});
  }

  State state;  // of the execution at hand
  int actor = 0;
  std::string fault;

  // --- what slots.h calls
  uint64_t load(const uint64_t* word, bool acquire) override {
    Word& w = word_at(word);
    size_t oldest = w.seen[actor];
    for (size_t v = oldest + 1; v < w.history.size(); ++v)  // known to have happened: cannot be un-seen
      if (knows(w.history[v])) oldest = v;
    const size_t pick = oldest + choose(w.history.size() - oldest);
    w.seen[actor] = static_cast<uint8_t>(pick);
    if (acquire && options_.acquire_learns) join(state.clocks[actor], w.history[pick].clock);
    return w.history[pick].value;
  }
  void store_release(uint64_t* word, uint64_t value) override {
    Word& w = word_at(word);
    if (w.history.size() > 1 && w.history.back().writer != actor) fault = "a word with two writers";
    ++state.clocks[actor][actor];
    const Clock published = options_.release_publishes ? state.clocks[actor] : Clock{};
    w.history.push_back({value, actor, published});
    w.seen[actor] = static_cast<uint8_t>(w.history.size() - 1);
    std::memcpy(word, &value, sizeof value);
  }
  uint64_t latest(const uint64_t* word) { return word_at(word).history.back().value; }

  // --- what the case's programs do to plain memory
  void write(void* at, uint64_t value) {
    Cell& cell = state.cells[offset(at)];
    if (cell.writer >= 0 && cell.writer != actor) fault = "a plain range with two writers";
    for (int a = 0; a < kMostActors; ++a)
      if (cell.read_at[a] != 0 && a != actor && state.clocks[actor][a] < cell.read_at[a])
        fault = "race: write after read";
    cell = {actor, state.clocks[actor][actor], {}};
    std::memcpy(at, &value, sizeof value);
  }
  uint64_t read(const void* at) {
    Cell& cell = state.cells[offset(at)];
    // Written before the writer's next release store, which I must know of.
    if (cell.writer >= 0 && cell.writer != actor && state.clocks[actor][cell.writer] <= cell.written_at)
      fault = "race: read of what is being written";
    cell.read_at[actor] = static_cast<uint8_t>(state.clocks[actor][actor] + 1);
    uint64_t value = 0;
    std::memcpy(&value, at, sizeof value);
    return value;
  }
  void expect(bool right, const char* what) {
    if (!right && fault.empty()) fault = what;
  }

  // Explores everything; the fault found, or empty.
  std::string explore(const Case& the_case) {
    model::memory = this;
    objects_ = the_case.objects;
    std::vector<std::vector<int>> edges;  // backwards
    std::vector<int> ends, to_visit;
    const auto number_of = [&](const std::string& key) {
      const auto [at, fresh] = known_.try_emplace(key, static_cast<int>(known_.size()));
      if (fresh) {
        edges.emplace_back();
        snapshots_.push_back(save());
        to_visit.push_back(at->second);
        const bool ended = std::all_of(state.message.begin(), state.message.begin() + the_case.actors,
                                       [&](int m) { return m == the_case.messages; });
        if (ended) ends.push_back(at->second);
      }
      return at->second;
    };
    number_of(key());
    while (!to_visit.empty()) {
      const int from = to_visit.back();
      to_visit.pop_back();
      const Snapshot start = snapshots_[from];
      snapshots_[from] = {};  // visited once
      for (int a = 0; a < the_case.actors; ++a) {
        restore(start);
        if (state.message[a] == the_case.messages) continue;
        std::vector<size_t> choices;
        do {
          restore(start);
          actor = a;
          begin_choices(choices);
          the_case.advance(a);
          the_case.check();
          if (!fault.empty()) return fault;
          const int to = number_of(key());
          if (to != from) edges[to].push_back(from);
          choices = next_choices();
        } while (!choices.empty());
      }
    }
    // Backwards from the ends: who is not met cannot finish.
    std::vector<bool> can_end(edges.size(), false);
    for (const int end : ends) can_end[end] = true;
    for (std::vector<int> frontier = ends; !frontier.empty();) {
      const int at = frontier.back();
      frontier.pop_back();
      for (const int before : edges[at])
        if (!can_end[before]) {
          can_end[before] = true;
          frontier.push_back(before);
        }
    }
    if (std::find(can_end.begin(), can_end.end(), false) != can_end.end()) return "stuck";
    return "";
  }
  size_t states() const { return known_.size(); }

 private:
  struct Snapshot {
    State state;
    std::vector<std::byte> bytes;
  };

  uint64_t offset(const void* at) const { return static_cast<const std::byte*>(at) - memory_.data(); }
  bool knows(const Version& version) const {
    return state.clocks[actor][version.writer] >= version.clock[version.writer] && version.clock[version.writer] != 0;
  }
  Word& word_at(const uint64_t* word) {
    Word& w = state.words[offset(word)];
    if (w.history.empty()) w.history.push_back({0, actor, {}});
    return w;
  }

  Snapshot save() const {
    Snapshot shot{state, {}};
    for (const auto& [at, bytes] : tracked_) shot.bytes.insert(shot.bytes.end(), at, at + bytes);
    for (const auto& [at, bytes] : objects_) {
      const auto* raw = static_cast<const std::byte*>(at);
      shot.bytes.insert(shot.bytes.end(), raw, raw + bytes);
    }
    return shot;
  }
  void restore(const Snapshot& shot) {
    state = shot.state;
    const std::byte* from = shot.bytes.data();
    for (const auto& [at, bytes] : tracked_) std::memcpy(at, from, bytes), from += bytes;
    for (const auto& [at, bytes] : objects_) std::memcpy(at, from, bytes), from += bytes;
  }
  std::string key() const {
    const Snapshot shot = save();
    std::string text(reinterpret_cast<const char*>(shot.bytes.data()), shot.bytes.size());
    const auto add = [&](const auto& part) { text.append(reinterpret_cast<const char*>(&part), sizeof part); };
    add(state.clocks);
    add(state.message);
    add(state.step);
    for (const auto& [at, word] : state.words) {
      add(at);
      add(word.seen);
      for (const Version& version : word.history) add(version.value), add(version.clock);
    }
    for (const auto& [at, cell] : state.cells) add(at), add(cell.writer), add(cell.written_at), add(cell.read_at);
    return text;
  }

  // The values of the loads of one step: an odometer over all combinations.
  void begin_choices(const std::vector<size_t>& prefix) {
    prefix_ = prefix;
    made_.clear();
  }
  size_t choose(size_t among) {
    const size_t pick = made_.size() < prefix_.size() ? prefix_[made_.size()] : 0;
    made_.push_back({pick, among});
    return pick;
  }
  std::vector<size_t> next_choices() const {
    std::vector<size_t> next;
    for (const auto& [pick, among] : made_) next.push_back(pick);
    for (size_t i = made_.size(); i-- > 0; next.pop_back())
      if (++next[i] < made_[i].second) return next;
    return {};
  }

  Options options_;
  alignas(4096) std::array<std::byte, 65536> memory_{};
  std::vector<std::pair<std::byte*, size_t>> tracked_;
  std::vector<std::pair<void*, size_t>> objects_;
  std::unordered_map<std::string, int> known_;
  std::vector<Snapshot> snapshots_;
  std::vector<size_t> prefix_;
  std::vector<std::pair<size_t, size_t>> made_;
};

constexpr uint32_t kIdentity = 0x5A;

// A Simple FIFO, one sender, `readers` readers, one message per entry of `cuts`.
struct SimpleCase {
  std::vector<SlotCut> cuts;
  int readers = 1;
  std::vector<SlotCut> readers_cuts = {};  // if the readers believe something else
  uint64_t least = 0;  // not 0: the sender likes `cuts` and takes so many, the readers go by its tail
};

std::string explore_simple(const SimpleCase& what, Explorer::Options options = {}, size_t* states = nullptr) {
  const auto explorer = std::make_unique<Explorer>(options);
  Explorer& e = *explorer;
  SimpleMemory memory;
  memory.tail = reinterpret_cast<TailLine*>(e.base());
  memory.heads = reinterpret_cast<CounterLine*>(e.base()) + 1;
  memory.readers = what.readers;
  memory.descriptors = reinterpret_cast<SlotDescriptor*>(e.base() + 1024);
  memory.slots = e.base() + 4096;
  memory.capacity = 192;
  SimpleSender sender(memory);
  std::vector<SimpleReceiver> readers;
  for (int r = 0; r < what.readers; ++r) readers.emplace_back(memory, r);
  const std::vector<SlotCut>& readers_cuts = what.readers_cuts.empty() ? what.cuts : what.readers_cuts;

  e.track(e.base(), kCacheLine * (1 + what.readers));
  e.track(memory.descriptors, sizeof(SlotDescriptor) * what.cuts.size());
  e.track(memory.slots, memory.capacity);
  Explorer::Case the_case{.actors = 1 + what.readers,
                          .messages = static_cast<int>(what.cuts.size()),
                          .advance = {},
                          .objects = {{&sender, sizeof sender}, {readers.data(), readers.size() * sizeof readers[0]}},
                          .check = {}};
  const auto word_of = [](int m, int half) { return static_cast<uint64_t>(1000 * m + half + 1); };
  the_case.advance = [&](int actor) {
    int& m = e.state.message[actor];
    int& step = e.state.step[actor];
    bool done = true;
    bool last = false;
    if (actor == 0) {
      switch (step) {
        case 0: {
          const SlotCut before = memory.tail->cut;
          done = what.least > 0 ? sender.cut(what.cuts[m], what.least) : sender.cut(what.cuts[m]);
          if (!(memory.tail->cut == before)) e.write(&memory.tail->cut.count, memory.tail->cut.count);
          break;
        }
        case 1:
          done = sender.has_room();
          break;
        case 2:
          e.write(sender.slot(), word_of(m, 0));
          break;
        case 3:
          e.write(sender.slot() + what.cuts[m].bytes - 8, word_of(m, 1));
          break;
        case 4:
          sender.publish(what.cuts[m].bytes, kIdentity + m);
          last = true;
          break;
      }
    } else {
      SimpleReceiver& reader = readers[actor - 1];
      switch (step) {
        case 0:
          if (what.least == 0) reader.cut(readers_cuts[m]);
          done = reader.ready();
          break;
        case 1:
          if (what.least > 0) {
            reader.cut_as_sent();
            e.read(&memory.tail->cut.count);
          }
          e.expect(reader.matches(kIdentity + m), "wrong identity");
          e.expect(reader.descriptor().bytes == what.cuts[m].bytes, "wrong size");
          break;
        case 2:
          e.expect(e.read(reader.slot()) == word_of(m, 0), "wrong bytes at the front");
          break;
        case 3:
          e.expect(e.read(reader.slot() + readers_cuts[m].bytes - 8) == word_of(m, 1), "wrong bytes at the back");
          break;
        case 4:
          reader.release();
          last = true;
          break;
      }
    }
    if (done) ++step;
    if (last) {
      step = 0;
      ++m;
    }
  };
  the_case.check = [&] {
    const uint64_t tail = e.latest(&memory.tail->value);
    for (int r = 0; r < what.readers; ++r) {
      const uint64_t head = e.latest(&memory.heads[r].value);
      e.expect(head <= tail && tail - head <= sender.current_cut().count, "tail - head out of bounds");
    }
  };
  const std::string fault = e.explore(the_case);
  if (states != nullptr) *states = e.states();
  return fault;
}

// An LL FIFO. `asked[m]`: what the readers ask for first; where it differs from the message's identity they must see a
// mismatch and nothing else.
struct LLCase {
  uint64_t slots;
  int messages;
  int readers = 1;
  int mismatched = -1;  // the message with another identity than asked for
  bool near = false;    // the slots twice: readers take a message from these, the next from those
};

std::string explore_ll(const LLCase& what, Explorer::Options options = {}, size_t* states = nullptr) {
  const auto explorer = std::make_unique<Explorer>(options);
  Explorer& e = *explorer;
  LLMemory memory;
  memory.heads = reinterpret_cast<CounterLine*>(e.base());
  memory.readers = what.readers;
  memory.slots = e.base() + 4096;
  memory.slot_count = what.slots;
  if (what.near) memory.near = memory.slots + what.slots * kLLSlotBytes;
  LLSender senders[2] = {LLSender(memory), LLSender(what.near ? memory.near_slots() : memory)};
  const int copies = what.near ? 2 : 1;
  std::vector<LLReceiver> readers;
  for (int r = 0; r < what.readers; ++r) readers.emplace_back(memory, r);
  e.track(e.base(), kCacheLine * what.readers);
  for (uint64_t s = 0; s < copies * what.slots; ++s) e.track(memory.slots + s * kLLSlotBytes, kCacheLine);

  Explorer::Case the_case{.actors = 1 + what.readers,
                          .messages = what.messages,
                          .advance = {},
                          .objects = {{senders, sizeof senders}, {readers.data(), readers.size() * sizeof readers[0]}},
                          .check = [] {}};
  the_case.advance = [&](int actor) {
    int& m = e.state.message[actor];
    int& step = e.state.step[actor];
    bool done = true;
    bool last = false;
    if (actor == 0) {
      LLSender& sender = senders[step % copies];  // each step on either copy
      switch (step / copies) {
        case 0:
          done = sender.has_room();
          break;
        case 1:
          e.write(sender.payload(), 1000 * m + 1);
          break;
        case 2:
          e.write(sender.payload() + 48, 1000 * m + 2);
          break;
        case 3:
          sender.publish(kIdentity);
          last = step % copies == copies - 1;
          break;
      }
    } else {
      LLReceiver& reader = readers[actor - 1];
      switch (step) {
        case 0:
          reader.take_near((m + actor) % 2 == 0);
          if (m == what.mismatched) {
            e.expect(!reader.ready(kIdentity + 1), "ready for a call that was not made");
            done = reader.mismatched(kIdentity + 1);
          } else {
            e.expect(!reader.mismatched(kIdentity), "a mismatch that is none");
            done = reader.ready(kIdentity);
          }
          break;
        case 1:
          done = reader.ready(kIdentity);
          break;
        case 2:
          e.expect(e.read(reader.payload()) == static_cast<uint64_t>(1000 * m + 1), "wrong first word");
          break;
        case 3:
          e.expect(e.read(reader.payload() + 48) == static_cast<uint64_t>(1000 * m + 2), "wrong last word");
          break;
        case 4:
          reader.release();
          last = true;
          break;
      }
    }
    if (done) ++step;
    if (last) {
      step = 0;
      ++m;
    }
  };
  const std::string fault = e.explore(the_case);
  if (states != nullptr) *states = e.states();
  return fault;
}

std::vector<SlotCut> repeated(SlotCut cut, int messages) { return std::vector<SlotCut>(messages, cut); }

TEST(SlotsModel, SimpleIsRightInEveryInterleaving) {
  for (const uint64_t slots : {1, 2, 3}) {
    size_t states = 0;
    EXPECT_EQ(explore_simple({.cuts = repeated({64, slots}, 6)}, {}, &states), "") << slots;
    std::printf("Simple, %lu slots, 6 messages: %zu states\n", slots, states);
    EXPECT_GT(states, 50u);
  }
}

TEST(SlotsModel, SimpleMayBeCutAnewBetweenMessages) {
  const SlotCut one{192, 1}, two{64, 2}, three{64, 3}, wide{128, 1};
  for (const auto& cuts : {std::vector<SlotCut>{two, two, one, three, three},
                           {three, three, three, one, two},
                           {one, wide, two, wide, three},
                           {three, two, three, two, three}})
    EXPECT_EQ(explore_simple({.cuts = cuts}), "");
}

// The number of slots is the sender's affair: it changes when nothing is in flight, and is told of by the tail.
TEST(SlotsModel, SimpleMayBeCutAsTheSenderLikes) {
  const SlotCut one{64, 1}, two{64, 2}, three{64, 3}, wide{128, 1};
  EXPECT_EQ(explore_simple({.cuts = {two, three, two, three, three}, .least = 2}), "");
  EXPECT_EQ(explore_simple({.cuts = {one, three, one, two, two}, .least = 1}), "");
  EXPECT_EQ(explore_simple({.cuts = {two, wide, wide, three, two}, .least = 1}), "");
  EXPECT_EQ(explore_simple({.cuts = {one, two, one}, .readers = 2, .least = 1}), "");
}

TEST(SlotsModel, SimpleFansOutToSeveralReaders) {
  EXPECT_EQ(explore_simple({.cuts = repeated({64, 1}, 3), .readers = 2}), "");
  EXPECT_EQ(explore_simple({.cuts = repeated({64, 2}, 3), .readers = 2}), "");
  EXPECT_EQ(explore_simple({.cuts = {{64, 2}, {128, 1}, {64, 2}}, .readers = 2}), "");
}

TEST(SlotsModel, LLIsRightInEveryInterleaving) {
  for (const uint64_t slots : {4, 8}) {
    size_t states = 0;
    EXPECT_EQ(explore_ll({.slots = slots, .messages = static_cast<int>(slots) + 3}, {}, &states), "") << slots;
    std::printf("LL, %lu slots, %lu messages: %zu states\n", slots, slots + 3, states);
  }
  EXPECT_EQ(explore_ll({.slots = 4, .messages = 3, .readers = 2}), "");
}

TEST(SlotsModel, LLMayBeTakenFromEitherCopy) {
  size_t states = 0;
  EXPECT_EQ(explore_ll({.slots = 4, .messages = 6, .near = true}, {}, &states), "");
  std::printf("LL twice, 4 slots, 6 messages: %zu states\n", states);
  EXPECT_EQ(explore_ll({.slots = 4, .messages = 2, .readers = 2, .near = true}), "");
  EXPECT_NE(explore_ll({.slots = 4, .messages = 6, .near = true}, {.release_publishes = false}), "");
}

TEST(SlotsModel, LLShowsAMismatchAndOnlyAMismatch) {
  for (const int message : {0, 2, 5}) EXPECT_EQ(explore_ll({.slots = 4, .messages = 6, .mismatched = message}), "");
}

// The explorer is worth what it finds.
TEST(SlotsModel, FindsWhatIsTakenAway) {
  const std::vector<SlotCut> cuts = repeated({64, 2}, 4);
  EXPECT_NE(explore_simple({.cuts = cuts}, {.release_publishes = false}), "");
  EXPECT_NE(explore_simple({.cuts = cuts}, {.acquire_learns = false}), "");
  EXPECT_NE(explore_ll({.slots = 4, .messages = 6}, {.release_publishes = false}), "");
  EXPECT_NE(explore_ll({.slots = 4, .messages = 6}, {.acquire_learns = false}), "");
  // A sender that believes in one slot more than there are.
  EXPECT_NE(explore_simple({.cuts = repeated({64, 3}, 5), .readers_cuts = repeated({64, 2}, 5)}), "");
}

}  // namespace
}  // namespace tutti
