#include "server/sandbox.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <thread>

#include <gtest/gtest.h>

#include "base/error.h"

namespace fathom::server {
namespace {

namespace fs = std::filesystem;

constexpr int kUnsupported = 77;

/// Walls do not come down again, so that each test needs a process of its own. `inside` returns the
/// line of the first thing that is not as it should be, 0 if all is.
int in_a_process(const std::function<int()>& inside) {
  const pid_t child = ::fork();
  if (child == 0) {
    try {
      ::_exit(inside());
    } catch (const Error& error) {
      ::_exit(error.code() == ErrorCode::Unsupported ? kUnsupported : 78);
    }
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

#define EXPECT_HERE(condition) \
  if (!(condition)) return __LINE__

int error_of(long result) { return result >= 0 ? 0 : errno; }

class Sandbox : public testing::Test {
 protected:
  Sandbox() {
    std::string name = (fs::temp_directory_path() / "fathom-sandbox-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) std::abort();
    folder_ = name;
    for (const char* sub : {"read", "write", "outside"}) {
      fs::create_directory(folder_ / sub);
      std::ofstream(folder_ / sub / "file") << "text";
    }
    fs::create_symlink(folder_ / "outside" / "file", folder_ / "read" / "link");
  }
  ~Sandbox() override { fs::remove_all(folder_); }
  int open(const char* path, int flags = O_RDONLY) const {
    const int fd = ::open((folder_ / path).c_str(), flags | O_CLOEXEC, 0600);
    const int error = error_of(fd);
    if (fd >= 0) ::close(fd);
    return error;
  }
  FileAccess access() const { return {{folder_ / "read"}, {folder_ / "write"}}; }

  fs::path folder_;
};

TEST_F(Sandbox, OnlyTheNamedFilesCanBeOpened) {
  if (!can_restrict_files()) GTEST_SKIP() << "this kernel has no Landlock";
  EXPECT_EQ(
      in_a_process([&] {
        restrict_files(access());
        EXPECT_HERE(open("read/file") == 0);
        EXPECT_HERE(open("read/file", O_WRONLY) == EACCES);
        EXPECT_HERE(open("read/new", O_WRONLY | O_CREAT) == EACCES);
        EXPECT_HERE(open("read/link") == EACCES);  // where it leads is what counts
        EXPECT_HERE(open("read/../outside/file") == EACCES);
        EXPECT_HERE(open("outside/file") == EACCES);
        EXPECT_HERE(error_of(::truncate((folder_ / "outside" / "file").c_str(), 0)) == EACCES);
        EXPECT_HERE(open("write/new", O_WRONLY | O_CREAT) == 0);
        EXPECT_HERE(error_of(::unlink((folder_ / "write" / "new").c_str())) == 0);
        EXPECT_HERE(error_of(::unlink((folder_ / "read" / "file").c_str())) == EACCES);
        std::atomic<int> of_thread = -1;
        std::thread([&] { of_thread = open("outside/file"); }).join();
        EXPECT_HERE(of_thread == EACCES);
        return 0;
      }),
      0);
}

TEST_F(Sandbox, TheDoorClosesForThreadsThatWereThereBefore) {
  const int result = in_a_process([&] {
    std::atomic<bool> closed = false;
    std::atomic<int> tried = -1;
    std::thread other([&] {
      while (!closed) std::this_thread::yield();
      tried = error_of(::socket(AF_INET, SOCK_STREAM, 0));
    });
    close_door();
    closed = true;
    other.join();
    EXPECT_HERE(tried == EPERM);
    return 0;
  });
  if (result == kUnsupported) GTEST_SKIP() << "no filter of system calls is taken here";
  EXPECT_EQ(result, 0);
}

TEST_F(Sandbox, BehindTheDoorOneComputesAndAnswersButNothingElse) {
  const int result = in_a_process([&] {
    int pair[2];
    EXPECT_HERE(::socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    close_door();
    EXPECT_HERE(error_of(::socket(AF_INET, SOCK_DGRAM, 0)) == EPERM);
    EXPECT_HERE(error_of(::connect(pair[0], nullptr, 0)) == EPERM);
    EXPECT_HERE(error_of(::listen(pair[0], 1)) == EPERM);
    EXPECT_HERE(error_of(::fork()) == EPERM);
    char* const none[] = {nullptr};
    EXPECT_HERE(error_of(::execve("/bin/true", none, none)) == EPERM);
    EXPECT_HERE(error_of(::kill(::getppid(), 0)) == EPERM);
    EXPECT_HERE(::mmap(nullptr, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) ==
                MAP_FAILED);
    // What was open stays open; memory, threads and files go on.
    EXPECT_HERE(::send(pair[0], "x", 1, 0) == 1);
    char byte;
    EXPECT_HERE(::recv(pair[1], &byte, 1, 0) == 1);
    EXPECT_HERE(open("read/file") == 0);
    std::atomic<bool> ran = false;
    std::thread([&] { ran = true; }).join();
    EXPECT_HERE(ran);
    const std::vector<char> large(std::size_t{64} << 20);
    EXPECT_HERE(large.back() == 0);
    return 0;
  });
  if (result == kUnsupported) GTEST_SKIP() << "no filter of system calls is taken here";
  EXPECT_EQ(result, 0);
}

TEST_F(Sandbox, WhoFetchesConnectsAndDoesNothingElse) {
  const int result = in_a_process([&] {
    std::atomic<bool> walled = false;
    std::atomic<int> tried = -1;
    std::thread other([&] {
      while (!walled) std::this_thread::yield();
      tried = error_of(::socket(AF_UNIX, SOCK_STREAM, 0));
    });
    only_connect();
    walled = true;
    other.join();
    EXPECT_HERE(tried == EPERM);  // threads that were there before
    for (const int family : {AF_INET, AF_INET6, AF_NETLINK}) {
      EXPECT_HERE(error_of(::socket(family, SOCK_DGRAM, 0)) != EPERM);
    }
    for (const int family : {AF_UNIX, AF_PACKET, AF_VSOCK, AF_ALG}) {
      EXPECT_HERE(error_of(::socket(family, SOCK_DGRAM, 0)) == EPERM);
    }
    const int connects = ::socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in nobody{};
    nobody.sin_family = AF_INET;
    nobody.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    nobody.sin_port = htons(1);
    EXPECT_HERE(error_of(::connect(connects, reinterpret_cast<sockaddr*>(&nobody),
                                   sizeof nobody)) == ECONNREFUSED);
    EXPECT_HERE(error_of(::listen(connects, 1)) == EPERM);
    EXPECT_HERE(error_of(::accept(connects, nullptr, nullptr)) == EPERM);
    EXPECT_HERE(error_of(::fork()) == EPERM);
    char* const none[] = {nullptr};
    EXPECT_HERE(error_of(::execve("/bin/true", none, none)) == EPERM);
    EXPECT_HERE(error_of(::kill(::getppid(), 0)) == EPERM);
    EXPECT_HERE(open("write/file", O_WRONLY) == 0);  // which files is for the other wall to say
    std::atomic<bool> ran = false;
    std::thread([&] { ran = true; }).join();
    EXPECT_HERE(ran);
    return 0;
  });
  if (result == kUnsupported) GTEST_SKIP() << "no filter of system calls is taken here";
  EXPECT_EQ(result, 0);
}

TEST_F(Sandbox, AProgramOfSomebodyElsesMayReadAndComputeAlone) {
  const int line = in_a_process([&] {
    restrict_files({{}, {}, {"/"}});
    forbid_network();
    EXPECT_HERE(error_of(::socket(AF_INET, SOCK_STREAM, 0)) == EPERM);
    EXPECT_HERE(error_of(::socket(AF_UNIX, SOCK_STREAM, 0)) == EPERM);
    EXPECT_HERE(error_of(::open((folder_ / "outside" / "file").c_str(), O_RDONLY)) == 0);
    EXPECT_HERE(error_of(::open((folder_ / "write" / "file").c_str(), O_WRONLY)) == EACCES);
    EXPECT_HERE(error_of(::open((folder_ / "write" / "new").c_str(), O_WRONLY | O_CREAT, 0600)) ==
                EACCES);
    EXPECT_HERE(error_of(::unlink((folder_ / "write" / "file").c_str())) == EACCES);
    EXPECT_HERE(std::system("exit 5") == 5 << 8);  // programs run, behind the same walls
    EXPECT_HERE(
        std::system(("rm -f " + (folder_ / "write" / "file").string() + " 2>/dev/null").c_str()) !=
        0);
    return 0;
  });
  if (line == kUnsupported) GTEST_SKIP() << "no Landlock";
  EXPECT_EQ(line, 0);
  EXPECT_TRUE(fs::exists(folder_ / "write" / "file"));
}

}  // namespace
}  // namespace fathom::server
