// SPDX-License-Identifier: Apache-2.0
// Files that others may read at any moment, and what is no file.
#include "base/whole_file.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include "base/handle.h"

namespace tutti {
namespace {

class WholeFile : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/tutti-whole-file-XXXXXX";
    ASSERT_NE(mkdtemp(name), nullptr);
    folder_ = name;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  std::string at(const std::string& name) const { return folder_ + "/" + name; }
  static std::string text_of(const std::string& path) {
    std::ifstream file(path);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  size_t entries() const {
    const std::filesystem::directory_iterator all(folder_);
    return static_cast<size_t>(std::distance(begin(all), end(all)));
  }
  std::string folder_;
};

TEST_F(WholeFile, ReplacesAFileAndLeavesNothingBeside) {
  for (const char* text : {"one, which is longer", "two"}) {
    const Status written = write_whole_file(at("file"), text, "the file");
    ASSERT_TRUE(written.ok()) << written.message();
    EXPECT_EQ(text_of(at("file")), text);
  }
  EXPECT_EQ(entries(), 1u);
}

TEST_F(WholeFile, WritesToAPipeAndLeavesItOne) {
  ASSERT_EQ(mkfifo(at("pipe").c_str(), 0600), 0);
  const UniqueFd reader(open(at("pipe").c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  ASSERT_TRUE(write_whole_file(at("pipe"), "text", "the file").ok());
  char read_back[8] = {};
  EXPECT_EQ(read(reader.get(), read_back, sizeof read_back), 4);
  EXPECT_STREQ(read_back, "text");
  EXPECT_TRUE(std::filesystem::is_fifo(at("pipe")));
  EXPECT_EQ(entries(), 1u);
}

TEST_F(WholeFile, FollowsALinkAndLeavesItOne) {
  std::ofstream(at("target")) << "an older text, which is longer";
  std::filesystem::create_symlink(at("target"), at("link"));
  ASSERT_TRUE(write_whole_file(at("link"), "text", "the file").ok());
  EXPECT_TRUE(std::filesystem::is_symlink(at("link")));
  EXPECT_EQ(text_of(at("target")), "text");
}

TEST_F(WholeFile, NamesWhatCannotBeWritten) {
  const Status nowhere = write_whole_file(at("none/file"), "text", "the dump file");
  EXPECT_NE(nowhere.message().find("the dump file " + at("none/file")), std::string::npos) << nowhere.message();
  const Status folder = write_whole_file(folder_, "text", "the dump file");
  EXPECT_NE(folder.message().find("open on the dump file " + folder_), std::string::npos) << folder.message();
  const Status full = write_whole_file("/dev/full", "text", "the dump file");
  EXPECT_NE(full.message().find("write on the dump file /dev/full"), std::string::npos) << full.message();
  EXPECT_EQ(entries(), 0u);
}

}  // namespace
}  // namespace tutti
