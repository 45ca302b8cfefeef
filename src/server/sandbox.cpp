#include "server/sandbox.h"

#include <fcntl.h>
#include <linux/landlock.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <memory>

#include "base/error.h"

namespace fathom::server {
namespace {

// --- files ------------------------------------------------------------------------------------

// Rights of kernels later than Debian 12's headers (linux/landlock.h, ABI 3 and 5).
constexpr std::uint64_t kTruncate = 1ull << 14;
constexpr std::uint64_t kIoctlDevice = 1ull << 15;

constexpr std::uint64_t kRead = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR;
constexpr std::uint64_t kWrite = kRead | LANDLOCK_ACCESS_FS_WRITE_FILE |
                                 LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_MAKE_DIR |
                                 LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_REMOVE_DIR |
                                 LANDLOCK_ACCESS_FS_REFER | kTruncate;
/// The rights that mean something for what is no folder; the kernel refuses the others there.
constexpr std::uint64_t kOfFiles = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE |
                                   LANDLOCK_ACCESS_FS_EXECUTE | kTruncate;

int landlock_version() {
  const long version = ::syscall(SYS_landlock_create_ruleset, nullptr, 0u,
                                 static_cast<unsigned>(LANDLOCK_CREATE_RULESET_VERSION));
  return static_cast<int>(version);
}

/// All rights that the kernel can hold back: what is not among them stays allowed to everybody.
std::uint64_t known_rights(int version) {
  std::uint64_t rights = (std::uint64_t{LANDLOCK_ACCESS_FS_MAKE_SYM} << 1) - 1;
  if (version >= 2) rights |= LANDLOCK_ACCESS_FS_REFER;
  if (version >= 3) rights |= kTruncate;
  if (version >= 5) rights |= kIoctlDevice;
  return rights;
}

class Descriptor {
 public:
  explicit Descriptor(long fd) : fd_(static_cast<int>(fd)) {}
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
};

void allow(int ruleset, const std::filesystem::path& path, std::uint64_t rights) {
  const Descriptor file(::open(path.c_str(), O_PATH | O_CLOEXEC));
  if (file.get() < 0) return;  // what does not exist cannot be opened either
  struct stat status{};
  if (::fstat(file.get(), &status) != 0) return;
  landlock_path_beneath_attr rule{};
  rule.allowed_access = S_ISDIR(status.st_mode) ? rights : rights & kOfFiles;
  rule.parent_fd = file.get();
  const long done =
      ::syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0u);
  require(done == 0, ErrorCode::Internal, "{}: the kernel takes no file rule: {}", path.string(),
          std::strerror(errno));
}

// --- the door ---------------------------------------------------------------------------------

/// What serving needs beyond computing: the sockets that are there, files (Landlock says which),
/// threads, memory without code in it, clocks.
constexpr const char* kAllowed[] = {
    // connections that somebody else has made
    "accept", "accept4", "recvfrom", "recvmsg", "sendto", "sendmsg", "shutdown", "getsockname",
    "getpeername", "getsockopt", "setsockopt",
    // waiting
    "poll", "ppoll", "select", "pselect6", "epoll_create", "epoll_create1", "epoll_ctl",
    "epoll_wait", "epoll_pwait", "epoll_pwait2", "eventfd2", "timerfd_create", "timerfd_settime",
    "timerfd_gettime", "pipe", "pipe2", "futex", "futex_waitv", "nanosleep", "clock_nanosleep",
    "sched_yield", "restart_syscall",
    // files
    "open", "openat", "close", "close_range", "read", "pread64", "readv", "preadv", "preadv2",
    "write", "pwrite64", "writev", "pwritev", "pwritev2", "lseek", "stat", "fstat", "lstat",
    "newfstatat", "statx", "access", "faccessat", "faccessat2", "readlink", "readlinkat",
    "getdents64", "getcwd", "fsync", "fdatasync", "sync_file_range", "ftruncate", "fallocate",
    "fadvise64", "flock", "fcntl", "dup", "dup2", "dup3", "unlink", "unlinkat", "rename",
    "renameat", "renameat2", "mkdir", "mkdirat", "rmdir", "chmod", "fchmod", "fchmodat", "fchown",
    "umask", "utimensat", "statfs", "fstatfs",
    // memory
    "brk", "munmap", "madvise", "mremap", "mlock", "munlock", "msync", "mincore", "mbind",
    "get_mempolicy", "set_mempolicy", "membarrier",
    // threads and signals
    "set_robust_list", "get_robust_list", "rseq", "set_tid_address", "gettid", "getpid", "getppid",
    "getcpu", "sched_getaffinity", "sched_setaffinity", "sched_getscheduler", "sched_getparam",
    "sched_get_priority_max", "sched_get_priority_min", "rt_sigaction", "rt_sigprocmask",
    "rt_sigreturn", "rt_sigpending", "rt_sigtimedwait", "sigaltstack", "exit", "exit_group",
    // looking at clocks and at oneself
    "clock_gettime", "clock_getres", "gettimeofday", "time", "times", "getrandom", "getrusage",
    "getrlimit", "sysinfo", "uname", "getuid", "geteuid", "getgid", "getegid"};

class Filter {
 public:
  /// `otherwise`: what happens to calls without a rule.
  explicit Filter(std::uint32_t otherwise = SCMP_ACT_ERRNO(EPERM))
      : context_(seccomp_init(otherwise), &seccomp_release) {
    require(context_ != nullptr, ErrorCode::Unsupported, "libseccomp cannot start");
  }
  void allow(const char* name) { add(name, SCMP_ACT_ALLOW, {}); }
  void allow(const char* name, scmp_arg_cmp when) { add(name, SCMP_ACT_ALLOW, {when}); }
  void refuse(const char* name, int error) {
    add(name, SCMP_ACT_ERRNO(static_cast<std::uint32_t>(error)), {});
  }
  void refuse(const char* name, int error, scmp_arg_cmp when) {
    add(name, SCMP_ACT_ERRNO(static_cast<std::uint32_t>(error)), {when});
  }
  void load() {
    set(SCMP_FLTATR_CTL_TSYNC, 1);     // every thread, not only this one
    set(SCMP_FLTATR_CTL_OPTIMIZE, 2);  // a search tree: a handful of comparisons a call
    const int failed = seccomp_load(context_.get());
    require(failed == 0, ErrorCode::Unsupported,
            "the kernel does not take the filter of system calls: {}", std::strerror(-failed));
  }

 private:
  void add(const char* name, std::uint32_t action, std::vector<scmp_arg_cmp> when) {
    const int number = seccomp_syscall_resolve_name(name);
    // A call that this libseccomp has not heard of stays forbidden; one of another architecture
    // gets a number below zero, and cannot be made.
    if (number < 0) return;
    const int failed = seccomp_rule_add_array(context_.get(), action, number,
                                              static_cast<unsigned>(when.size()), when.data());
    require(failed == 0, ErrorCode::Internal, "libseccomp takes no rule for {}: {}", name,
            std::strerror(-failed));
  }
  void set(scmp_filter_attr attribute, std::uint32_t value) {
    const int failed = seccomp_attr_set(context_.get(), attribute, value);
    require(failed == 0, ErrorCode::Unsupported,
            "the filter of system calls cannot be set for all threads: {}", std::strerror(-failed));
  }

  std::unique_ptr<void, void (*)(scmp_filter_ctx)> context_;
};

scmp_arg_cmp masked(unsigned argument, std::uint64_t mask, std::uint64_t equal) {
  return {argument, SCMP_CMP_MASKED_EQ, mask, equal};
}

scmp_arg_cmp equals(unsigned argument, std::uint64_t value) {
  return {argument, SCMP_CMP_EQ, value, 0};
}

}  // namespace

bool can_restrict_files() { return landlock_version() >= 1; }

void restrict_files(const FileAccess& access) {
  const int version = landlock_version();
  require(version >= 1, ErrorCode::Unsupported, "this kernel has no Landlock");
  const std::uint64_t known = known_rights(version);
  landlock_ruleset_attr attributes{};
  attributes.handled_access_fs = known;
  const Descriptor ruleset(
      ::syscall(SYS_landlock_create_ruleset, &attributes, sizeof attributes, 0u));
  require(ruleset.get() >= 0, ErrorCode::Internal, "the kernel makes no file rules: {}",
          std::strerror(errno));
  for (const char* path : {"/proc/self", "/proc/meminfo", "/proc/stat", "/proc/cpuinfo",
                           "/sys/devices/system", "/sys/fs/cgroup", "/sys/kernel/mm",
                           "/etc/localtime", "/usr/share/zoneinfo", "/dev/urandom", "/dev/null"}) {
    allow(ruleset.get(), path, kRead & known);
  }
  for (const auto& path : access.read) allow(ruleset.get(), path, kRead & known);
  for (const auto& path : access.write) allow(ruleset.get(), path, kWrite & known);
  for (const auto& path : access.run) {
    allow(ruleset.get(), path, (kRead | LANDLOCK_ACCESS_FS_EXECUTE) & known);
  }
  // Without this a program that gains rights when it is run could be used to get round the rules.
  require(::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0, ErrorCode::Internal,
          "the kernel does not forbid new privileges: {}", std::strerror(errno));
  require(::syscall(SYS_landlock_restrict_self, ruleset.get(), 0u) == 0, ErrorCode::Internal,
          "the kernel does not apply the file rules: {}", std::strerror(errno));
}

void close_door() {
  Filter filter;
  for (const char* name : kAllowed) filter.allow(name);
  // A new thread, never a new process. What clone3 is asked for lies in memory, where a filter
  // cannot look; the C library takes clone when it is told that there is no clone3.
  filter.allow("clone", masked(0, CLONE_THREAD, CLONE_THREAD));
  filter.refuse("clone3", ENOSYS);
  // Memory may hold code or be written to from now on, but no new code comes in.
  filter.allow("mmap", masked(2, PROT_EXEC, 0));
  filter.allow("mprotect", masked(2, PROT_EXEC, 0));
  // Signals to oneself: abort() and raise().
  filter.allow("tgkill", equals(0, static_cast<std::uint64_t>(::getpid())));
  filter.allow("prlimit64", equals(2, 0));  // to look at limits, not to change them
  for (const unsigned long request : {FIONBIO, FIONREAD, TCGETS, TIOCGWINSZ}) {
    filter.allow("ioctl", equals(1, request));
  }
  filter.load();
}

void only_connect() {
  Filter filter(SCMP_ACT_ALLOW);
  for (const char* name : {"execve",
                           "execveat",
                           "fork",
                           "vfork",
                           "listen",
                           "accept",
                           "accept4",
                           "kill",
                           "tkill",
                           "rt_sigqueueinfo",
                           "rt_tgsigqueueinfo",
                           "pidfd_open",
                           "pidfd_getfd",
                           "pidfd_send_signal",
                           "ptrace",
                           "process_vm_readv",
                           "process_vm_writev",
                           "kcmp",
                           "io_uring_setup",
                           "unshare",
                           "setns",
                           "mount",
                           "bpf",
                           "perf_event_open",
                           "userfaultfd"}) {
    filter.refuse(name, EPERM);
  }
  filter.refuse("clone", EPERM, masked(0, CLONE_THREAD, 0));
  filter.refuse("clone3", ENOSYS);  // as in close_door()
  // Beside IP only netlink, by which the resolver asks which addresses this machine has.
  for (std::uint64_t family = 0; family < AF_NETLINK; ++family) {
    if (family != AF_INET && family != AF_INET6) filter.refuse("socket", EPERM, equals(0, family));
  }
  filter.refuse("socket", EPERM, scmp_arg_cmp{0, SCMP_CMP_GT, AF_NETLINK, 0});
  filter.load();
}

void forbid_network() {
  Filter filter(SCMP_ACT_ALLOW);
  for (const char* name : {"socket", "socketpair", "connect", "bind", "io_uring_setup", "ptrace",
                           "process_vm_readv", "process_vm_writev", "pidfd_getfd"}) {
    filter.refuse(name, EPERM);
  }
  filter.load();
}

void forbid_core_dumps() {
  const rlimit none{0, 0};
  ::setrlimit(RLIMIT_CORE, &none);
  ::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
}

}  // namespace fathom::server
