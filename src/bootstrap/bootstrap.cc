// SPDX-License-Identifier: Apache-2.0
// See bootstrap.h. Join is the state machine of joining; the tree operations follow it.
#include "bootstrap/bootstrap.h"

#include <algorithm>
#include <bit>
#include <optional>

#include "base/env.h"
#include "base/log.h"
#include "net/frame.h"
#include "net/interfaces.h"
#include "net/socket.h"

namespace tutti {
namespace {

constexpr int kWaitMs = 1000;  // between two looks at a deadline
// How much longer than the timeout a rank waits for the rendezvous to say who was missing.
constexpr int64_t kGraceMs = 10'000;
constexpr int64_t kFarewellMs = 1000;  // for telling neighbours of a failure

int64_t with_grace(int64_t timeout_ms) { return timeout_ms < 0 ? -1 : timeout_ms + kGraceMs; }

}  // namespace

JoinOptions JoinOptions::with(const UniqueId& id, int ranks, int rank) {
  JoinOptions options;
  options.rendezvous = id.addresses;
  options.secret = id.secret;
  options.ranks = ranks;
  options.rank = rank;
  options.timeout_ms = env().init_timeout;
  options.remedy =
      "the process that called tuttiGetUniqueId must be running and reachable (TUTTI_SOCKET_IFNAME), and an id makes "
      "one communicator only";
  return options;
}

// Dial -> SendRequest -> AwaitAnswer -> ConnectTree -> PassTable -> Done.
class Join {
 public:
  static Result<Join> begin(const JoinOptions& options);
  Result<Poll> advance();
  void wait();
  std::unique_ptr<Bootstrap> take() { return std::move(bootstrap_); }

 private:
  enum class Phase : uint8_t { Dial, SendRequest, AwaitAnswer, ConnectTree, PassTable, Done };
  static constexpr const char* kServer = "the rendezvous";

  Join(int64_t timeout_ms, Deadline deadline, Dialer dialer, FrameWriter request)
      : timeout_ms_(timeout_ms), deadline_(deadline), dialer_(std::move(dialer)), request_(std::move(request)) {}
  Status take_answer();
  Result<Poll> pass_table();
  Status listen_to_server();

  Phase phase_ = Phase::Dial;
  int64_t timeout_ms_;
  Deadline deadline_;
  std::optional<Dialer> dialer_;  // to the rendezvous, then to the parent
  UniqueFd server_;
  FrameWriter request_;
  FrameReader answer_{kMaxAnswerBytes};
  FrameReader from_parent_{kMaxAnswerBytes};
  Frame table_;                           // PassTable: what goes to the children
  std::vector<FrameWriter> to_children_;  // in the order of the neighbours
  std::unique_ptr<Bootstrap> bootstrap_;
};

Result<Join> Join::begin(const JoinOptions& options) {
  TUTTI_TRY(crypto_ready());
  if (options.ranks < 1 || options.ranks > kMaxRanks) {
    return invalid_argument("nranks is {}: it must be 1 to {}", options.ranks, kMaxRanks);
  }
  if (options.rank < 0 || options.rank >= options.ranks) {
    return invalid_argument("rank is {}: with nranks {} it must be 0 to {}", options.rank, options.ranks,
                            options.ranks - 1);
  }
  if (options.info.size() > kMaxInfoBytes || options.config_text.size() > kMaxConfigText) {
    return invalid_argument("what rank {} tells the others is too long: {} and {} bytes, at most {} and {}",
                            options.rank, options.info.size(), options.config_text.size(), kMaxInfoBytes,
                            kMaxConfigText);
  }

  std::unique_ptr<Bootstrap> bootstrap(new Bootstrap);
  bootstrap->rank_ = options.rank;
  bootstrap->timeout_ms_ = options.timeout_ms;
  bootstrap->secret_ = options.secret;
  bootstrap->tag_ = tag_of(options.secret);
  bootstrap->cancelled_ = options.cancelled;
  bootstrap->members_.resize(static_cast<size_t>(options.ranks));
  TUTTI_ASSIGN_OR_RETURN(std::vector<SocketAddress> local, local_addresses());
  const PeerListener::Options listen{
      .secret = options.secret, .tag = bootstrap->tag_, .rank = options.rank, .size = options.ranks};
  TUTTI_ASSIGN_OR_RETURN(bootstrap->listener_, PeerListener::open(listen, std::move(local)));

  JoinRequest request;
  request.library_version = options.library_version;
  request.byte_order = std::endian::native == std::endian::little ? 1 : 2;
  request.word_bytes = sizeof(size_t);
  request.ranks = options.ranks;
  TUTTI_ASSIGN_OR_RETURN(request.member, this_member(options.rank));
  request.timeout_ms = options.timeout_ms;
  request.config_digest = options.config_digest;
  request.config_text = options.config_text;
  request.addresses = bootstrap->listener_->addresses();
  request.info.assign(options.info.begin(), options.info.end());

  Dialer dialer({.addresses = options.rendezvous,
                 .secret = options.secret,
                 .tag = bootstrap->tag_,
                 .claim = {options.rank, -1, kPurposeRendezvous},
                 .peer = kServer,
                 .deadline = bootstrap->deadline(options.timeout_ms),
                 .remedy = options.remedy,
                 .keep_trying = options.keep_trying,
                 .stagger_ms = options.keep_trying ? 50 : 250});
  Join join(options.timeout_ms, bootstrap->deadline(with_grace(options.timeout_ms)), std::move(dialer),
            FrameWriter(make_frame(encode_request(request))));
  join.bootstrap_ = std::move(bootstrap);
  return join;
}

Result<Poll> Join::advance() {
  TUTTI_TRY(bootstrap_->listener_->poll());
  if (phase_ == Phase::Dial) {
    TUTTI_ASSIGN_OR_RETURN(const Poll dialed, dialer_->advance());
    if (dialed == Poll::Done) {
      server_ = dialer_->take();
      dialer_.reset();
      phase_ = Phase::SendRequest;
    }
  }
  if (phase_ == Phase::SendRequest) {
    TUTTI_ASSIGN_OR_RETURN(const Poll sent, request_.advance(server_.get(), kServer));
    if (sent == Poll::Done) phase_ = Phase::AwaitAnswer;
  }
  if (phase_ == Phase::AwaitAnswer) {
    TUTTI_ASSIGN_OR_RETURN(const Poll received, answer_.advance(server_.get(), kServer));
    if (received == Poll::Done) {
      TUTTI_TRY(take_answer());
      phase_ = Phase::ConnectTree;
    }
  }
  if (phase_ == Phase::ConnectTree) {
    TUTTI_TRY(listen_to_server());
    TUTTI_ASSIGN_OR_RETURN(const Poll connected, bootstrap_->advance_tree(dialer_));
    if (connected == Poll::Done) phase_ = Phase::PassTable;
  }
  if (phase_ == Phase::PassTable) {
    TUTTI_TRY(listen_to_server());
    TUTTI_ASSIGN_OR_RETURN(const Poll passed, pass_table());
    if (passed == Poll::Done) {
      // Best effort: a byte fits into the socket, and if the rendezvous is gone, the others will be told.
      (void)write_some(server_.get(), std::span(&kConnected, 1), kServer).ok();
      server_.reset();
      phase_ = Phase::Done;
    }
  }
  if (phase_ == Phase::Done) return Poll::Done;
  if (!deadline_.passed()) return Poll::Pending;
  if (deadline_.cancelled()) return bootstrap_->cancelled_error();
  if (phase_ == Phase::ConnectTree) return bootstrap_->missing_neighbours();
  if (phase_ == Phase::PassTable) {
    return remote_error("the table of ranks was not passed on within {} ms, to {} or by it", timeout_ms_,
                        bootstrap_->text_of(bootstrap_->rank_));
  }
  return remote_error("{} did not answer within {} ms", kServer, with_grace(timeout_ms_));
}

Status Join::take_answer() {
  Bootstrap& bootstrap = *bootstrap_;
  const Bytes answer = answer_.take();
  answer_ = FrameReader(kMaxAnswerBytes);
  bootstrap.addresses_.resize(bootstrap.members_.size());
  if (bootstrap.rank_ == 0) {
    TUTTI_ASSIGN_OR_RETURN(std::vector<TableEntry> table, parse_answer(answer, bootstrap.size()));
    bootstrap.take_table(std::move(table));
    table_ = make_frame(answer);
  } else {
    TUTTI_ASSIGN_OR_RETURN(TableEntry parent, parse_place(answer, bootstrap.size(), bootstrap.rank_));
    const auto place = static_cast<size_t>(parent.member.rank);
    bootstrap.members_[place] = std::move(parent.member);
    bootstrap.addresses_[place] = std::move(parent.addresses);
  }
  deadline_ = bootstrap.deadline(timeout_ms_);
  bootstrap.begin_tree(dialer_, deadline_);
  return {};
}

// From the parent to the children, each of which gets it as it came.
Result<Poll> Join::pass_table() {
  Bootstrap& bootstrap = *bootstrap_;
  const size_t first_child = bootstrap.rank_ > 0 ? 1 : 0;
  if (table_ == nullptr) {
    const std::string parent = bootstrap.text_of(tree_parent(bootstrap.rank_));
    TUTTI_ASSIGN_OR_RETURN(const Poll received, from_parent_.advance(bootstrap.neighbours_[0].fd.get(), parent));
    if (received == Poll::Pending) return Poll::Pending;
    const Bytes bytes = from_parent_.take();
    TUTTI_ASSIGN_OR_RETURN(std::vector<TableEntry> table, parse_answer(bytes, bootstrap.size()));
    bootstrap.take_table(std::move(table));
    table_ = make_frame(bytes);
  }
  while (to_children_.size() < bootstrap.neighbours_.size() - first_child) to_children_.emplace_back(table_);
  Poll all = Poll::Done;
  for (size_t i = 0; i < to_children_.size(); ++i) {
    Bootstrap::Neighbour& child = bootstrap.neighbours_[first_child + i];
    TUTTI_ASSIGN_OR_RETURN(const Poll sent, to_children_[i].advance(child.fd.get(), bootstrap.text_of(child.rank)));
    if (sent == Poll::Pending) all = Poll::Pending;
  }
  return all;
}

// Until we say that we are connected it stays, and speaks only if another rank failed.
Status Join::listen_to_server() {
  TUTTI_ASSIGN_OR_RETURN(const Poll received, answer_.advance(server_.get(), kServer));
  if (received == Poll::Pending) return {};
  TUTTI_TRY(parse_answer(answer_.take(), bootstrap_->size()));
  return remote_error("{} sent the table of ranks twice", kServer);
}

void Join::wait() {
  std::vector<pollfd> items;
  bootstrap_->listener_->add_poll(items);
  int timeout_ms = bootstrap_->listener_->poll_ms(deadline_.poll_ms(kWaitMs));
  const bool dialing = phase_ == Phase::Dial || (phase_ == Phase::ConnectTree && dialer_);
  if (dialing) {
    dialer_->add_poll(items);
    timeout_ms = dialer_->poll_ms(timeout_ms);
  }
  if (phase_ == Phase::SendRequest) items.push_back({server_.get(), POLLOUT, 0});
  if (phase_ == Phase::AwaitAnswer || phase_ == Phase::ConnectTree || phase_ == Phase::PassTable)
    items.push_back({server_.get(), POLLIN, 0});
  if (phase_ == Phase::PassTable) {
    std::vector<Bootstrap::Neighbour>& neighbours = bootstrap_->neighbours_;
    if (table_ == nullptr) items.push_back({neighbours[0].fd.get(), POLLIN, 0});
    const size_t first_child = neighbours.size() - to_children_.size();
    for (size_t i = 0; i < to_children_.size(); ++i)
      if (!to_children_[i].done()) items.push_back({neighbours[first_child + i].fd.get(), POLLOUT, 0});
  }
  if (const Status waited = wait_on(items, timeout_ms); !waited.ok()) {
    log_warn(Subsystem::Bootstrap, "{}", waited.message());  // advance() then runs into its own error
  }
}

Result<std::unique_ptr<Bootstrap>> Bootstrap::join(const JoinOptions& options) {
  TUTTI_ASSIGN_OR_RETURN(Join join, Join::begin(options));
  while (true) {
    TUTTI_ASSIGN_OR_RETURN(const Poll joined, join.advance());
    if (joined == Poll::Done) break;
    join.wait();
  }
  return join.take();
}

void Bootstrap::take_table(std::vector<TableEntry> table) {
  infos_.resize(table.size());
  for (size_t rank = 0; rank < table.size(); ++rank) {
    members_[rank] = std::move(table[rank].member);
    addresses_[rank] = std::move(table[rank].addresses);
    infos_[rank] = std::move(table[rank].info);
  }
}

void Bootstrap::begin_tree(std::optional<Dialer>& to_parent, const Deadline& deadline) {
  if (rank_ > 0) {
    neighbours_.push_back({tree_parent(rank_), UniqueFd()});
    to_parent.emplace(dial_options(tree_parent(rank_), kPurposeTree, deadline));
  }
  for (const int child : {2 * rank_ + 1, 2 * rank_ + 2}) {
    if (child < size()) neighbours_.push_back({child, UniqueFd()});
  }
}

Result<Poll> Bootstrap::advance_tree(std::optional<Dialer>& to_parent) {
  bool all = true;
  for (Neighbour& neighbour : neighbours_) {
    if (neighbour.fd) continue;
    if (neighbour.rank > rank_) {
      if (auto fd = listener_->take(neighbour.rank, kPurposeTree)) neighbour.fd = std::move(*fd);
    } else {
      TUTTI_ASSIGN_OR_RETURN(const Poll dialed, to_parent->advance());
      if (dialed == Poll::Done) neighbour.fd = to_parent->take();
    }
    all = all && neighbour.fd;
  }
  return all ? Poll::Done : Poll::Pending;
}

Status Bootstrap::missing_neighbours() const {
  std::vector<int> missing;
  for (const Neighbour& neighbour : neighbours_) {
    if (!neighbour.fd) missing.push_back(neighbour.rank);
  }
  return remote_error(
      "no connection with rank {} after {} ms: it failed after all ranks had joined, or cannot reach {}",
      text_of_ranks(missing), timeout_ms_, tutti::text_of(listener_->addresses()));
}

Status Bootstrap::cancelled_error() const { return invalid_usage("rank {} aborted the communicator", rank_); }

Dialer::Options Bootstrap::dial_options(int rank, uint32_t purpose, const Deadline& deadline) const {
  return {.addresses = addresses_[static_cast<size_t>(rank)],
          .secret = secret_,
          .tag = tag_,
          .claim = {rank_, rank, purpose},
          .peer = text_of(rank),
          .deadline = deadline,
          .remedy = ""};
}

// ---- the tree ----
//
// Data (messages.h) is upwards that of a subtree, downwards that of all. A failure travels to all neighbours but the
// one it came from, so every rank gets the first cause, and not "my neighbour closed the connection".

Status Bootstrap::send(Neighbour& neighbour, std::span<const std::byte> payload, const Deadline& deadline) {
  const Frame frame = make_frame(payload);
  return write_full(neighbour.fd.get(), *frame, deadline, text_of(neighbour.rank));
}

// The payload after kind and sequence.
Result<Bytes> Bootstrap::receive(Neighbour& neighbour, const Deadline& deadline) {
  const std::string peer = text_of(neighbour.rank);
  FrameReader reader(kMaxAnswerBytes);
  while (true) {
    TUTTI_ASSIGN_OR_RETURN(const Poll received, reader.advance(neighbour.fd.get(), peer));
    if (received == Poll::Done) break;
    if (deadline.cancelled()) return cancelled_error();
    if (deadline.passed()) {
      return remote_error(
          "{}, or a rank that reports through it, did not take part in out-of-band exchange {} within {} ms", peer,
          sequence_, timeout_ms_);
    }
    std::vector<pollfd> items{{neighbour.fd.get(), POLLIN, 0}};
    TUTTI_TRY(wait_on(items, deadline.poll_ms(kWaitMs)));
  }
  return parse_tree_message(reader.take(), sequence_, peer);
}

Result<std::vector<Bytes>> Bootstrap::gather_and_spread(std::span<const std::byte> mine) {
  const Deadline deadline = this->deadline(timeout_ms_);
  ByteWriter up = begin_tree_data(sequence_);
  const size_t head = up.size();
  add_tree_part(up, rank_, mine);
  const auto children = std::span(neighbours_).subspan(rank_ > 0 ? 1 : 0);
  for (Neighbour& child : children) {
    TUTTI_ASSIGN_OR_RETURN(const Bytes subtree, receive(child, deadline));
    up.raw(subtree);
  }
  Bytes all = up.take();
  if (rank_ > 0) {
    TUTTI_TRY(send(neighbours_[0], all, deadline));
    TUTTI_ASSIGN_OR_RETURN(const Bytes payload, receive(neighbours_[0], deadline));
    all.resize(head);  // stays; the payload is all ranks' now
    all.insert(all.end(), payload.begin(), payload.end());
  }
  for (Neighbour& child : children) TUTTI_TRY(send(child, all, deadline));

  auto blobs = parse_tree_parts(std::span<const std::byte>(all).subspan(head), members_.size(), kMaxGatherBytes);
  if (!blobs) return remote_error("out-of-band exchange {} does not hold one part of each rank", sequence_);
  return std::move(*blobs);
}

void Bootstrap::tell_neighbours(const Status& failure) {
  const Bytes message = encode_tree_failure(sequence_, failure);
  for (Neighbour& neighbour : neighbours_) {
    if (!neighbour.fd) continue;
    // Best effort: one of them may be the cause.
    (void)send(neighbour, message, Deadline::in_ms(kFarewellMs)).ok();
    neighbour.fd.reset();
  }
}

Result<std::vector<Bytes>> Bootstrap::all_gather(std::span<const std::byte> mine) {
  if (!failure_.ok()) return failure_;
  if (mine.size() > kMaxGatherBytes || mine.size() * members_.size() > kMaxAnswerBytes / 2) {
    return invalid_argument("rank {} gives {} bytes to an out-of-band exchange of {} ranks: at most {} in all", rank_,
                            mine.size(), members_.size(), kMaxAnswerBytes / 2);
  }
  auto gathered = gather_and_spread(mine);
  ++sequence_;
  if (!gathered.ok()) {
    failure_ = gathered.status();
    tell_neighbours(failure_);
  }
  return gathered;
}

Status Bootstrap::barrier() { return all_gather({}).status(); }

}  // namespace tutti
