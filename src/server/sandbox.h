// What the process may still do once it serves: talk with those who come, and compute.
//
// Two walls, which nothing in the process can take down again:
//   files   Landlock: what lies outside the named folders cannot be opened at all.
//   door    seccomp: no socket can be made or connected (those of clients are accepted), no program
//           run, no process made, no code mapped. Every other call that serving does not need
//           fails with EPERM too: what is allowed is listed, not what is forbidden.
// Together: no telemetry, no update check and no look-up of names is possible, whatever a model's
// file or a client's bytes may have done to the process. `fathom self-test --privacy` shows it.
#pragma once

#include <filesystem>
#include <vector>

namespace fathom::server {

struct FileAccess {
  std::vector<std::filesystem::path> read;  // files, or folders with all that is in them
  /// Files that may be changed too, and folders in which files may be made and changed.
  std::vector<std::filesystem::path> write;
  std::vector<std::filesystem::path> run = {};  // may be read, and run as programs
};

/// Whether this kernel has Landlock (5.13 and later, unless it was switched off).
bool can_restrict_files();

/// From here on this thread, and those that it starts, open nothing but what `access` names, and
/// what the C library and the engine read of the machine (/proc/self, /sys/devices/system, the time
/// zone). Paths that do not exist are passed over. Call it while there is one thread. Throws
/// Error(Unsupported) where can_restrict_files() is false, Error(Internal) if the kernel refuses.
void restrict_files(const FileAccess& access);

/// Closes the door for every thread of the process, those that exist included. Throws
/// Error(Unsupported) if the kernel cannot: nothing is restricted then.
void close_door();

/// For a process that fetches for others: from here on all its threads may connect over IP, but not
/// listen; they run no program, make no process, reach no Unix socket, and neither signal nor look
/// into another process. What is not needed for any of this stays allowed. Throws as close_door().
void only_connect();

/// For a program of somebody else's that computes: from here on this thread, and the program that
/// it becomes, makes no socket, no ring of requests that could make one, and looks into no other
/// process. Throws as close_door() does.
void forbid_network();

/// No core file, and no other process of this user may look into this one's memory: both hold what
/// people have said.
void forbid_core_dumps();

}  // namespace fathom::server
