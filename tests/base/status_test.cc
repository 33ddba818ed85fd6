// SPDX-License-Identifier: Apache-2.0
// Status and Result: success is free, errors pass through the two macros unchanged.
#include "base/status.h"

#include <gtest/gtest.h>

#include <cerrno>

namespace tutti {
namespace {

static_assert(sizeof(Status) <= 2 * sizeof(void*));

Result<int> half(int value) {
  if (value % 2 != 0) return invalid_argument("{} is odd", value);
  return value / 2;
}

Result<int> quarter(int value) {
  TUTTI_ASSIGN_OR_RETURN(const int once, half(value));
  return half(once);
}

Status check(int value) {
  TUTTI_TRY(quarter(value));
  return {};
}

TEST(Status, IsOkByDefault) {
  EXPECT_TRUE(Status().ok());
  EXPECT_EQ(Status().code(), Code::Ok);
  EXPECT_EQ(Status().message(), "");
}

TEST(Status, PassesThroughUnchanged) {
  EXPECT_TRUE(check(8).ok());
  EXPECT_EQ(*quarter(8), 2);
  EXPECT_EQ(check(6).message(), "3 is odd");
  EXPECT_EQ(check(6).code(), Code::InvalidArgument);
}

TEST(Status, NamesCallObjectAndErrno) {
  errno = ENOENT;
  const Status status = errno_status("open", "/a/file");
  EXPECT_EQ(status.code(), Code::SystemError);
  EXPECT_EQ(status.message(), "open on /a/file: No such file or directory (errno 2)");
}

}  // namespace
}  // namespace tutti
