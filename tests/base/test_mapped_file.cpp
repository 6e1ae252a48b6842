// Mapped files: contents, refusals, and pages that come back after release.
#include "base/mapped_file.h"

#include <cstring>
#include <filesystem>
#include <fstream>
#include <vector>

#include <sys/stat.h>
#include <unistd.h>

#include "base/errors.h"
#include "tests/catch.h"

namespace inferd {
namespace {

struct ScratchFolder {
  std::filesystem::path path;
  ScratchFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "inferd-map-XXXXXX").string();
    path = ::mkdtemp(name.data());
  }
  ~ScratchFolder() { std::filesystem::remove_all(path); }
};

void write(const std::filesystem::path& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

std::string failure(const std::filesystem::path& path) {
  try {
    MappedFile::open(path);
  } catch (const CheckpointError& error) {
    REQUIRE(error.code == ExitCode::bad_model);
    return error.what();
  }
  return "";
}

}  // namespace

TEST_CASE("a mapping shows the file's bytes, also after its pages were released") {
  ScratchFolder folder;
  std::string text(100'003, '\0');
  for (std::size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>(i * 31 % 251);
  write(folder.path / "data", text);
  const auto file = MappedFile::open(folder.path / "data");
  REQUIRE(file->bytes().size() == text.size());
  REQUIRE(std::memcmp(file->bytes().data(), text.data(), text.size()) == 0);
  file->release_pages(file->bytes().data() + 5, 50'000);
  file->release_pages(file->bytes().data(), text.size());
  file->release_pages(file->bytes().data() + text.size(), 1'000'000);
  file->release_pages(nullptr, 10);
  REQUIRE(std::memcmp(file->bytes().data(), text.data(), text.size()) == 0);
  REQUIRE(file->path() == (folder.path / "data").string());
}

TEST_CASE("empty files map to nothing; what is no regular file is refused at once") {
  ScratchFolder folder;
  write(folder.path / "empty", "");
  REQUIRE(MappedFile::open(folder.path / "empty")->bytes().empty());
  REQUIRE(failure(folder.path / "absent").find("absent: cannot open: No such file") != std::string::npos);
  REQUIRE(failure(folder.path).find("expected a regular file") != std::string::npos);
  REQUIRE(::mkfifo((folder.path / "fifo").c_str(), 0600) == 0);
  REQUIRE(failure(folder.path / "fifo").find("expected a regular file") != std::string::npos);
}

}  // namespace inferd
