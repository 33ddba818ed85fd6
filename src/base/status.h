// SPDX-License-Identifier: Apache-2.0
// Status and Result<T>: errors are values, written once, where they happen.
//
// A Status says what failed, on what, and (where known) what to try. Frames in between add nothing: they pass it on
// with TUTTI_TRY or TUTTI_ASSIGN_OR_RETURN. Result<T> has the shape of std::expected<T, Status> (tl::expected
// underneath). Messages are formatted with {fmt}: its light header here, its body compiled once, hidden, in format.cc.
#pragma once

#include <fmt/core.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <utility>

namespace tutti {

// The values equal tuttiResult_t's; src/api asserts it.
enum class Code : int32_t {
  Ok = 0,
  CudaError = 1,
  SystemError = 2,
  InternalError = 3,
  InvalidArgument = 4,
  InvalidUsage = 5,
  RemoteError = 6,
  InProgress = 7,
};

// Success is a null pointer: a Status costs one word, and success allocates nothing.
class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(Code code, std::string message) : error_(std::make_shared<Error>(Error{code, std::move(message)})) {}

  bool ok() const { return error_ == nullptr; }
  Code code() const { return error_ ? error_->code : Code::Ok; }
  const std::string& message() const { return error_ ? error_->message : empty(); }

 private:
  struct Error {
    Code code;
    std::string message;
  };
  static const std::string& empty() {
    static const std::string& none = *new std::string;  // never destroyed: statuses may outlive static destruction
    return none;
  }
  std::shared_ptr<const Error> error_;
};

template <class T>
class [[nodiscard]] Result : public tl::expected<T, Status> {
 public:
  using tl::expected<T, Status>::expected;
  Result(Status status) : tl::expected<T, Status>(tl::unexpected<Status>(std::move(status))) {}
  bool ok() const { return this->has_value(); }
  Status status() const { return ok() ? Status() : this->error(); }
};

template <class... Args>
Status error(Code code, fmt::format_string<Args...> text, Args&&... args) {
  return Status(code, fmt::format(text, std::forward<Args>(args)...));
}
template <class... Args>
Status invalid_argument(fmt::format_string<Args...> text, Args&&... args) {
  return Status(Code::InvalidArgument, fmt::format(text, std::forward<Args>(args)...));
}
template <class... Args>
Status invalid_usage(fmt::format_string<Args...> text, Args&&... args) {
  return Status(Code::InvalidUsage, fmt::format(text, std::forward<Args>(args)...));
}
template <class... Args>
Status system_error(fmt::format_string<Args...> text, Args&&... args) {
  return Status(Code::SystemError, fmt::format(text, std::forward<Args>(args)...));
}
template <class... Args>
Status remote_error(fmt::format_string<Args...> text, Args&&... args) {
  return Status(Code::RemoteError, fmt::format(text, std::forward<Args>(args)...));
}

// SystemError with errno's text: "CALL on WHAT: TEXT (errno N)". Reads errno first thing.
Status errno_status(std::string_view call, std::string_view what);

}  // namespace tutti

#define TUTTI_CONCAT_INNER(a, b) a##b
#define TUTTI_CONCAT(a, b) TUTTI_CONCAT_INNER(a, b)

// Returns from the enclosing function when `expr` (a Status or a Result) failed.
#define TUTTI_TRY(expr)                                          \
  do {                                                           \
    if (auto&& tutti_try_ = (expr); !tutti_try_.ok()) [[unlikely]] \
      return ::tutti::as_status(tutti_try_);                     \
  } while (false)

// Declares or assigns `lhs` from a Result, or returns its Status.
#define TUTTI_ASSIGN_OR_RETURN(lhs, expr) TUTTI_ASSIGN_OR_RETURN_IMPL(TUTTI_CONCAT(tutti_result_, __LINE__), lhs, expr)
#define TUTTI_ASSIGN_OR_RETURN_IMPL(tmp, lhs, expr) \
  auto tmp = (expr);                                \
  if (!tmp.ok()) [[unlikely]]                       \
    return tmp.status();                            \
  lhs = std::move(*tmp)

namespace tutti {
inline const Status& as_status(const Status& status) { return status; }
template <class T>
Status as_status(const Result<T>& result) {
  return result.status();
}
}  // namespace tutti
