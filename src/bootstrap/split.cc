// SPDX-License-Identifier: Apache-2.0
// Children of a bootstrap (bootstrap.h): split through the parent's tree, shrink around it.
//
//   split     one all-gather of the parent: everybody's colour, key, configuration and the address of the listener it
//             has opened for the child. The secret of a child derives from the parent's secret, the number of the
//             exchange and the colour, so all of its ranks know it and no two children share it. Then each child
//             connects its tree.
//   shrink    the survivors' tree is connected through the listeners of the parent, under its secret. What a rank says
//             first on such a connection is whom it excludes: lists that differ are found on the spot. Over that tree
//             rank 0 gives a nonce, of which the child's secret is made, and all exchange addresses.
#include <sys/socket.h>

#include <algorithm>
#include <bit>
#include <cerrno>

#include "base/log.h"
#include "bootstrap/bootstrap.h"
#include "net/frame.h"
#include "net/interfaces.h"
#include "net/socket.h"

namespace tutti {
namespace {

constexpr int kWaitMs = 1000;          // between two looks at a deadline
constexpr int64_t kFarewellMs = 1000;  // for telling a caller why it is refused
constexpr uint32_t kMaxListBytes = sizeof(uint32_t) + kMaxRanks * sizeof(int32_t);

Secret child_secret(const Secret& parent, std::string_view how, const Bytes& which) {
  return Secret{keyed_mac(parent, how, {reinterpret_cast<const uint8_t*>(which.data()), which.size()})};
}

// What a rank tells the ranks of its child: JoinRequest is what a rank tells a rendezvous, and says the same.
JoinRequest request_for(const Member& member, const PeerListener* listener, const ChildOptions& wish,
                        int64_t timeout_ms) {
  JoinRequest request;
  request.library_version = wish.library_version;
  request.byte_order = std::endian::native == std::endian::little ? 1 : 2;
  request.word_bytes = sizeof(size_t);
  request.member = member;
  request.timeout_ms = timeout_ms;
  request.config_digest = wish.config_digest;
  request.config_text = wish.config_text;
  if (listener != nullptr) request.addresses = listener->addresses();
  return request;
}

struct Word {
  Status status;
  int color = -1, key = 0;
  JoinRequest request;
};
Bytes encode_word(const Word& word) {
  ByteWriter writer;
  writer.number(static_cast<int32_t>(word.status.code()));
  writer.sized(std::string_view(word.status.message()).substr(0, kMaxErrorText));
  writer.number(static_cast<int32_t>(word.color));
  writer.number(static_cast<int32_t>(word.key));
  writer.sized(encode_request(word.request));
  return writer.take();
}
Result<Word> parse_word(std::span<const std::byte> bytes, const Member& from) {
  ByteReader reader(bytes);
  Word word;
  const auto code = static_cast<Code>(reader.number<int32_t>());
  const std::string text = reader.text(kMaxErrorText);
  word.color = reader.number<int32_t>();
  word.key = reader.number<int32_t>();
  const auto request = reader.sized(kMaxRequestBytes);
  if (!reader.finished()) return remote_error("{} sent a malformed word for a new communicator", from.text());
  if (code != Code::Ok) word.status = remote_error("{}: {}", from.text(), text);
  TUTTI_ASSIGN_OR_RETURN(word.request, parse_request(request));
  return word;
}

// Everybody's words, after which all of the child know that it can be, or all know why not.
Status check_words(std::vector<JoinRequest>& requests, const std::vector<Word>& words) {
  for (const Word& word : words) TUTTI_TRY(word.status);
  if (auto conflict = find_conflict(requests)) return std::move(*conflict);
  return {};
}

}  // namespace

// Everything that a child takes over from its parent. `ranks`: of the parent, in the child's order.
std::unique_ptr<Bootstrap> Bootstrap::child_of(const std::vector<int>& ranks, const Secret& secret) const {
  std::unique_ptr<Bootstrap> child(new Bootstrap);
  child->timeout_ms_ = timeout_ms_;
  child->secret_ = secret;
  child->tag_ = tag_of(secret);
  child->cancelled_ = cancelled_;
  for (size_t i = 0; i < ranks.size(); ++i) {
    const auto rank = static_cast<size_t>(ranks[i]);
    if (ranks[i] == rank_) child->rank_ = static_cast<int>(i);
    child->members_.push_back(members_[rank]);
    child->members_.back().rank = static_cast<int>(i);
    child->infos_.push_back(infos_[rank]);
  }
  return child;
}

Status Bootstrap::connect_tree(const Deadline& deadline) {
  std::optional<Dialer> to_parent;
  begin_tree(to_parent, deadline);
  for (;;) {
    TUTTI_TRY(listener_->poll());
    TUTTI_ASSIGN_OR_RETURN(const Poll connected, advance_tree(to_parent));
    if (connected == Poll::Done) return {};
    if (deadline.cancelled()) return cancelled_error();
    if (deadline.passed()) return missing_neighbours();
    std::vector<pollfd> items;
    listener_->add_poll(items);
    int timeout_ms = listener_->poll_ms(deadline.poll_ms(kWaitMs));
    if (to_parent && !neighbours_.front().fd) {
      to_parent->add_poll(items);
      timeout_ms = to_parent->poll_ms(timeout_ms);
    }
    TUTTI_TRY(wait_on(items, timeout_ms));
  }
}

Result<std::unique_ptr<Bootstrap>> Bootstrap::split(const ChildOptions& wish) {
  TUTTI_TRY(failure_);
  const bool joins = wish.color >= 0;
  ByteWriter which;
  which.number(sequence_);  // equal on all ranks, or the exchange fails
  which.number(static_cast<int32_t>(wish.color));
  const Secret secret = child_secret(secret_, "tutti split", which.bytes());

  Word mine{{}, wish.color, wish.key, {}};
  std::unique_ptr<PeerListener> listener;
  if (joins) {
    // Its rank is not known yet, nor how many there will be.
    auto local = local_addresses();
    mine.status = local.status();
    if (local.ok()) {
      auto opened = PeerListener::open({.secret = secret, .tag = tag_of(secret)}, std::move(*local));
      mine.status = opened.status();
      if (opened.ok()) listener = std::move(*opened);
    }
  }
  mine.request = request_for(members_[static_cast<size_t>(rank_)], listener.get(), wish, timeout_ms_);
  TUTTI_ASSIGN_OR_RETURN(const std::vector<Bytes> all, all_gather(encode_word(mine)));
  if (!joins) return std::unique_ptr<Bootstrap>();

  std::vector<Word> words;
  for (size_t rank = 0; rank < all.size(); ++rank) {
    TUTTI_ASSIGN_OR_RETURN(Word word, parse_word(all[rank], members_[rank]));
    if (word.color != wish.color) continue;
    word.request.member = members_[rank];  // the parent's table is what we believe
    words.push_back(std::move(word));
  }
  std::ranges::stable_sort(words, {}, &Word::key);  // they come in the order of their ranks
  std::vector<int> ranks;
  std::vector<JoinRequest> requests;
  for (const Word& word : words) {
    ranks.push_back(word.request.member.rank);
    requests.push_back(word.request);
    requests.back().ranks = static_cast<int>(words.size());
    requests.back().member.rank = static_cast<int>(requests.size()) - 1;
  }
  TUTTI_TRY(mine.status);
  TUTTI_TRY(check_words(requests, words));

  std::unique_ptr<Bootstrap> child = child_of(ranks, secret);
  for (JoinRequest& request : requests) child->addresses_.push_back(std::move(request.addresses));
  listener->set_place(child->rank_, child->size());
  child->listener_ = std::move(listener);
  TUTTI_TRY(child->connect_tree(child->deadline(timeout_ms_)));
  return child;
}

// ---- shrink ----

// The survivors find each other: the child's tree, connected through the parent's listeners.
class Reunion {
 public:
  Reunion(Bootstrap& parent, Bootstrap& child, const std::vector<int>& survivors, const std::vector<int>& excluded,
          const Deadline& deadline)
      : parent_(parent), child_(child), survivors_(survivors), excluded_(excluded), deadline_(deadline) {}

  Status run() {
    begin();
    for (;;) {
      TUTTI_TRY(parent_.listener_->poll());
      TUTTI_TRY(dial());
      TUTTI_TRY(welcome());
      if (std::ranges::all_of(child_.neighbours_, [](const auto& one) { return static_cast<bool>(one.fd); })) return {};
      if (deadline_.cancelled()) return parent_.cancelled_error();
      if (deadline_.passed()) return missing();
      TUTTI_TRY(wait());
    }
  }

 private:
  struct Caller {
    int rank;  // of the parent
    UniqueFd fd;
    FrameReader reader{kMaxListBytes};
    bool gone = false;
  };

  void begin() {
    const int me = child_.rank_;
    if (me > 0) {
      child_.neighbours_.push_back({tree_parent(me), UniqueFd()});
      Dialer::Options options =
          parent_.dial_options(survivors_[static_cast<size_t>(tree_parent(me))], kPurposeShrink, deadline_);
      options.remedy = "exclude it if it has failed too";
      to_parent_.emplace(std::move(options));
    }
    for (const int below : {2 * me + 1, 2 * me + 2}) {
      if (below < child_.size()) child_.neighbours_.push_back({below, UniqueFd()});
    }
  }

  Status dial() {
    if (!to_parent_) return {};
    TUTTI_ASSIGN_OR_RETURN(const Poll dialed, to_parent_->advance());
    if (dialed == Poll::Pending) return {};
    Bootstrap::Neighbour& above = child_.neighbours_.front();
    above.fd = to_parent_->take();
    to_parent_.reset();
    return child_.send(above, list(), deadline_);
  }

  // Whoever calls says first whom it excludes.
  Status welcome() {
    for (const Member& member : parent_.members_) {
      if (auto fd = parent_.listener_->take(member.rank, kPurposeShrink))
        callers_.push_back({member.rank, std::move(*fd)});
    }
    for (Caller& caller : callers_) {
      const auto received = caller.reader.advance(caller.fd.get(), parent_.text_of(caller.rank));
      caller.gone = !received.ok();  // of an attempt that its rank has given up
      if (!received.ok() || *received == Poll::Pending) continue;
      caller.gone = true;
      TUTTI_TRY(compare(caller));
      if (closed(caller.fd.get())) continue;
      for (Bootstrap::Neighbour& below : child_.neighbours_) {
        if (below.rank > child_.rank_ && survivors_[static_cast<size_t>(below.rank)] == caller.rank)
          below.fd = std::move(caller.fd);
      }
    }
    std::erase_if(callers_, [](const Caller& caller) { return caller.gone; });
    return {};
  }

  Status compare(Caller& caller) {
    const Bytes said = caller.reader.take();
    if (said == list()) return {};
    ByteReader reader(said);
    std::vector<int> theirs(std::min<uint32_t>(reader.number<uint32_t>(), kMaxRanks));
    for (int& rank : theirs) rank = reader.number<int32_t>();
    Status differ = invalid_usage(
        "{} leaves out rank(s) {}, but {} leaves out {}: pass the same excludeRanks on all ranks that stay",
        parent_.text_of(parent_.rank_), text_of_ranks(excluded_), parent_.text_of(caller.rank),
        reader.finished() ? text_of_ranks(theirs) : "what cannot be read");
    // Best effort: it may have given up.
    const Frame refusal = make_frame(encode_tree_failure(0, differ));
    (void)write_full(caller.fd.get(), *refusal, Deadline::in_ms(kFarewellMs), parent_.text_of(caller.rank)).ok();
    return differ;
  }

  static bool closed(int fd) {
    char one = 0;
    const ssize_t got = ::recv(fd, &one, 1, MSG_PEEK | MSG_DONTWAIT);
    return got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR);
  }

  Bytes list() const {
    ByteWriter writer;
    writer.number(static_cast<uint32_t>(excluded_.size()));
    for (const int rank : excluded_) writer.number(static_cast<int32_t>(rank));
    return writer.take();
  }

  Status missing() const {
    std::vector<int> ranks;
    for (const auto& one : child_.neighbours_) {
      if (!one.fd) ranks.push_back(survivors_[static_cast<size_t>(one.rank)]);
    }
    return remote_error(
        "shrink: rank(s) {} did not call it within {} ms (TUTTI_INIT_TIMEOUT): exclude them if they have failed too",
        text_of_ranks(ranks), parent_.timeout_ms_);
  }

  Status wait() {
    std::vector<pollfd> items;
    parent_.listener_->add_poll(items);
    int timeout_ms = parent_.listener_->poll_ms(deadline_.poll_ms(kWaitMs));
    if (to_parent_) {
      to_parent_->add_poll(items);
      timeout_ms = to_parent_->poll_ms(timeout_ms);
    }
    for (const Caller& caller : callers_) items.push_back({caller.fd.get(), POLLIN, 0});
    return wait_on(items, timeout_ms);
  }

  Bootstrap& parent_;
  Bootstrap& child_;
  const std::vector<int>& survivors_;
  const std::vector<int>& excluded_;
  const Deadline deadline_;
  std::optional<Dialer> to_parent_;
  std::vector<Caller> callers_;
};

Result<std::unique_ptr<Bootstrap>> Bootstrap::shrink(const std::vector<int>& excluded, const ChildOptions& wish) {
  std::vector<int> survivors;
  for (const Member& member : members_) {
    if (!std::ranges::binary_search(excluded, member.rank)) survivors.push_back(member.rank);
  }
  // Until rank 0 has said what the secret is to be, the child goes by its parent's.
  std::unique_ptr<Bootstrap> child = child_of(survivors, secret_);
  const Deadline deadline = this->deadline(timeout_ms_);
  if (Status met = Reunion(*this, *child, survivors, excluded, deadline).run(); !met.ok()) {
    child->tell_neighbours(met);
    return met;
  }

  Secret nonce;
  if (child->rank_ == 0) nonce = random_secret();
  TUTTI_ASSIGN_OR_RETURN(const std::vector<Bytes> nonces, child->all_gather(std::as_bytes(std::span(nonce.bytes))));
  child->secret_ = child_secret(secret_, "tutti shrink", nonces[0]);
  child->tag_ = tag_of(child->secret_);

  Word mine;
  auto local = local_addresses();
  mine.status = local.status();
  if (local.ok()) {
    auto opened = PeerListener::open(
        {.secret = child->secret_, .tag = child->tag_, .rank = child->rank_, .size = child->size()}, std::move(*local));
    mine.status = opened.status();
    if (opened.ok()) child->listener_ = std::move(*opened);
  }
  const auto me = static_cast<size_t>(child->rank_);
  mine.request = request_for(child->members_[me], child->listener_.get(), wish, timeout_ms_);
  mine.request.ranks = child->size();
  TUTTI_ASSIGN_OR_RETURN(const std::vector<Bytes> all, child->all_gather(encode_word(mine)));
  std::vector<Word> words;
  std::vector<JoinRequest> requests;
  for (size_t rank = 0; rank < all.size(); ++rank) {
    TUTTI_ASSIGN_OR_RETURN(Word word, parse_word(all[rank], child->members_[rank]));
    requests.push_back(word.request);
    requests.back().member = child->members_[rank];
    words.push_back(std::move(word));
  }
  TUTTI_TRY(mine.status);
  TUTTI_TRY(check_words(requests, words));
  for (JoinRequest& request : requests) child->addresses_.push_back(std::move(request.addresses));
  return child;
}

}  // namespace tutti
