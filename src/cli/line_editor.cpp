#include "cli/line_editor.h"

#include <fmt/format.h>
#include <histedit.h>
#include <langinfo.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <clocale>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <cwchar>
#include <deque>
#include <fstream>
#include <iterator>
#include <span>
#include <string_view>

#include "base/atomic_file.h"
#include "base/error.h"
#include "cli/interrupt.h"
#include "cli/terminal.h"
#include "cli/text_wrap.h"

namespace fathom {
namespace {

// Keys that no terminal sends, through which read_key() tells the editor of events.
constexpr wchar_t kInterruptKey = L'\x1e';  // ^^
constexpr wchar_t kPasteKey = L'\x1f';      // ^_
constexpr wchar_t kResizeKey = L'\x1d';     // ^]
constexpr wchar_t kRestoreKey = L'\x1c';    // Ctrl and backslash
// libedit cannot draw a line that holds line breaks: while it is edited, this stands for one.
constexpr std::string_view kBreakSign = "\u21B5";
constexpr const char* kPasteStart = "\033[200~";
constexpr const char* kPasteEnd = "\033[201~";

constexpr std::size_t kPromptWidth = 2;  // "> "

constexpr std::string_view kSealed = "FATHOM sealed history\n";  // begins such a file

volatile std::sig_atomic_t g_resized = 0;
void on_resize(int) {
  g_resized = 1;
  wake_from_signal();
}

std::string with_signs(const std::string& text) {
  std::string line;
  for (const char c : text) {
    if (c == '\n') {
      line += kBreakSign;
    } else {
      line += c;
    }
  }
  return line;
}

std::string with_breaks(std::string line) {
  std::size_t at = 0;
  while ((at = line.find(kBreakSign, at)) != std::string::npos) {
    line.replace(at++, kBreakSign.size(), "\n");
  }
  return line;
}

/// Typed text is UTF-8 even where the environment names no locale, as in most containers.
void use_utf8() {
  std::setlocale(LC_CTYPE, "");
  if (std::strcmp(::nl_langinfo(CODESET), "UTF-8") != 0) std::setlocale(LC_CTYPE, "C.UTF-8");
}

}  // namespace

struct LineEditor::Impl {
  EditLine* editor = nullptr;
  History* history = nullptr;
  std::filesystem::path history_file;
  std::optional<SecretKey> key;
  std::vector<std::string> words;
  std::string prompt;
  std::deque<char> pending;  // bytes read ahead while looking for a paste
  std::string pasted;
  bool interrupted = false;
  // Across a change of the terminal's size: what was typed, what of it stands before the
  // cursor, and how many characters after it.
  bool resized = false;
  std::string kept, kept_before;
  int kept_after = 0;

  static Impl& of(EditLine* editor) {
    void* self = nullptr;
    ::el_get(editor, EL_CLIENTDATA, &self);
    return *static_cast<Impl*>(self);
  }

  /// libedit knows files alone: this one is nowhere but in memory.
  struct MemoryFile {
    MemoryFile() : fd(::memfd_create("history", MFD_CLOEXEC)) {}
    ~MemoryFile() { ::close(fd); }
    MemoryFile(const MemoryFile&) = delete;
    MemoryFile& operator=(const MemoryFile&) = delete;
    std::string path() const { return fmt::format("/proc/self/fd/{}", fd); }
    const int fd;
  };

  void load_history() {
    HistEvent event{};
    std::ifstream file(history_file, std::ios::binary);
    std::string text(std::istreambuf_iterator<char>(file), {});
    if (!text.starts_with(kSealed)) {  // written without a key: with one, the next save seals it
      ::history(history, &event, H_LOAD, history_file.c_str());
      return;
    }
    const auto sealed = std::as_bytes(std::span(text)).subspan(kSealed.size());
    const auto lines = key ? key->open(sealed, {}) : std::nullopt;
    if (!lines) {
      history_file.clear();  // somebody's who has the key
      return;
    }
    const MemoryFile memory;
    if (::write(memory.fd, lines->data(), lines->size()) < 0) return;
    ::history(history, &event, H_LOAD, memory.path().c_str());
  }

  void save_history() {
    HistEvent event{};
    if (!key) {
      ::history(history, &event, H_SAVE, history_file.c_str());
      return;
    }
    const MemoryFile memory;
    ::history(history, &event, H_SAVE, memory.path().c_str());
    std::ifstream in(memory.path(), std::ios::binary);
    const std::string lines(std::istreambuf_iterator<char>(in), {});
    try {
      AtomicFile file(history_file);
      file.write(kSealed);
      file.write(key->seal(std::as_bytes(std::span(lines)), {}));
      file.commit();
    } catch (const Error&) {
      // As above: it is no reason to stop.
    }
  }

  static char* show_prompt(EditLine* editor) { return of(editor).prompt.data(); }

  enum class Wait {
    Key,    // until something happens
    Paste,  // until there is a byte: events are told once the paste is whole
    Brief   // as long as a terminal takes between the bytes of one key
  };

  /// The next byte; -1 at the end of input, -2 for an interrupt or if there is none for now, -3 for
  /// another size of the terminal.
  int next_byte(Wait wait) {
    if (!pending.empty()) {
      const char c = pending.front();
      pending.pop_front();
      return static_cast<unsigned char>(c);
    }
    while (true) {
      if (wait == Wait::Key && g_resized != 0) return -3;
      if (wait == Wait::Key && InterruptGuard::pending()) return -2;
      pollfd inputs[] = {{STDIN_FILENO, POLLIN, 0}, {signal_wakeup(), POLLIN, 0}};
      const int ready = ::poll(inputs, 2, wait == Wait::Brief ? 50 : -1);
      if (ready == 0) return -2;
      if (ready < 0 && errno != EINTR) return -1;
      if (ready < 0 || inputs[1].revents != 0) {
        settle_wakeup();
        continue;
      }
      char c = 0;
      const ssize_t got = ::read(STDIN_FILENO, &c, 1);
      if (got == 1) return static_cast<unsigned char>(c);
      if (got == 0 || errno != EINTR) return -1;
    }
  }

  /// After an escape byte: whether a paste begins; if not, what was read is given back.
  bool paste_begins() {
    std::string seen = "\033";
    while (seen.size() < std::strlen(kPasteStart)) {
      const int byte = next_byte(Wait::Brief);
      if (byte < 0) break;
      seen += static_cast<char>(byte);
      if (kPasteStart[seen.size() - 1] != seen.back()) break;
    }
    if (seen == kPasteStart) return true;
    pending.insert(pending.begin(), seen.begin() + 1, seen.end());
    return false;
  }

  void read_paste() {
    pasted.clear();
    const std::size_t end = std::strlen(kPasteEnd);
    while (pasted.size() < end || pasted.compare(pasted.size() - end, end, kPasteEnd) != 0) {
      const int byte = next_byte(Wait::Paste);
      if (byte < 0) return;
      pasted += static_cast<char>(byte);
    }
    pasted.resize(pasted.size() - end);
    for (char& c : pasted) {
      if (c == '\r') c = '\n';
    }
    while (!pasted.empty() && pasted.back() == '\n') pasted.pop_back();
    std::erase(pasted, '\0');
    pasted = with_signs(pasted);
  }

  static int read_key(EditLine* editor, wchar_t* key) {
    Impl& self = of(editor);
    std::mbstate_t state{};
    if (!self.kept.empty()) {
      *key = kRestoreKey;
      return 1;
    }
    while (true) {
      const int byte = self.next_byte(Wait::Key);
      if (byte == -3) {
        g_resized = 0;
        *key = kResizeKey;
        return 1;
      }
      if (byte == -2) {
        *key = kInterruptKey;
        return 1;
      }
      if (byte < 0) return 0;
      const char c = static_cast<char>(byte);
      if (c == '\033' && self.paste_begins()) {
        self.read_paste();
        *key = kPasteKey;
        return 1;
      }
      const std::size_t used = std::mbrtowc(key, &c, 1, &state);
      if (used == static_cast<std::size_t>(-2)) continue;
      if (used == static_cast<std::size_t>(-1)) {
        state = {};
        continue;  // a byte that is no UTF-8 was typed: it is dropped
      }
      return 1;
    }
  }

  static void clear_line(EditLine* editor) {
    const LineInfo* line = ::el_line(editor);
    const auto after = static_cast<int>(line->lastchar - line->cursor);
    ::el_cursor(editor, after);
    line = ::el_line(editor);
    const auto size = static_cast<int>(line->lastchar - line->buffer);
    if (size > 0) ::el_deletestr(editor, size);
  }

  static unsigned char on_interrupt_key(EditLine* editor, std::wint_t) {
    Impl& self = of(editor);
    self.interrupted = true;
    InterruptGuard::take();
    clear_line(editor);
    return CC_NEWLINE;
  }

  static unsigned char on_paste_key(EditLine* editor, std::wint_t) {
    Impl& self = of(editor);
    if (self.pasted.empty()) return CC_NORM;
    return ::el_insertstr(editor, self.pasted.c_str()) == 0 ? CC_REFRESH : CC_ERROR;
  }

  /// libedit's own answer to another width writes past its buffers when the cursor was further
  /// right than the new one goes: the line is given up, and begun anew with what it held.
  static unsigned char on_resize_key(EditLine* editor, std::wint_t) {
    Impl& self = of(editor);
    const LineInfo* line = ::el_line(editor);
    self.kept.assign(line->buffer, line->lastchar);
    self.kept_before.assign(line->buffer, line->cursor);
    self.kept_after = 0;
    for (const char* at = line->cursor; at != line->lastchar; ++at) {
      if ((static_cast<unsigned char>(*at) & 0xC0U) != 0x80) ++self.kept_after;
    }
    self.resized = true;
    return CC_NEWLINE;
  }

  static unsigned char on_restore_key(EditLine* editor, std::wint_t) {
    Impl& self = of(editor);
    const bool whole = ::el_insertstr(editor, self.kept.c_str()) == 0;
    if (whole && self.kept_after > 0) ::el_cursor(editor, -self.kept_after);
    self.kept.clear();
    return whole ? CC_REFRESH : CC_ERROR;
  }

  /// Ctrl-D: the end on an empty line (libedit's own would print "^D"), else deletes.
  static unsigned char on_end_key(EditLine* editor, std::wint_t) {
    const LineInfo* line = ::el_line(editor);
    if (line->buffer == line->lastchar) return CC_EOF;
    if (line->cursor == line->lastchar) return CC_ERROR;
    ::el_cursor(editor, 1);
    ::el_deletestr(editor, 1);
    return CC_REFRESH;
  }

  static unsigned char on_tab(EditLine* editor, std::wint_t) {
    Impl& self = of(editor);
    const LineInfo* line = ::el_line(editor);
    const std::string typed(line->buffer, line->cursor);
    std::string common;
    int matches = 0;
    for (const std::string& word : self.words) {
      if (!word.starts_with(typed)) continue;
      if (matches++ == 0) {
        common = word;
      } else {
        const auto differ = std::mismatch(common.begin(), common.end(), word.begin(), word.end());
        common.erase(differ.first, common.end());
      }
    }
    if (matches == 0 || typed.empty() || typed[0] != '/') return CC_ERROR;
    const std::string rest = common.substr(typed.size()) + (matches == 1 ? " " : "");
    if (rest.empty() || ::el_insertstr(editor, rest.c_str()) != 0) return CC_ERROR;
    return CC_REFRESH;
  }
};

LineEditor::LineEditor(const std::filesystem::path& history_file, std::vector<std::string> words,
                       const std::optional<SecretKey>& key)
    : impl_(std::make_unique<Impl>()) {
  use_utf8();
  impl_->words = std::move(words);
  impl_->history_file = history_file;
  impl_->history = ::history_init();
  impl_->editor = ::el_init("fathom", stdin, stdout, stderr);
  HistEvent event{};
  ::history(impl_->history, &event, H_SETSIZE, 1000);
  ::history(impl_->history, &event, H_SETUNIQUE, 1);
  if (key) impl_->key = key->derive("chat history");
  if (!history_file.empty()) impl_->load_history();

  EditLine* editor = impl_->editor;
  ::el_set(editor, EL_CLIENTDATA, impl_.get());
  ::el_set(editor, EL_PROMPT_ESC, &Impl::show_prompt, '\1');
  ::el_set(editor, EL_EDITOR, "emacs");
  ::el_set(editor, EL_HIST, ::history, impl_->history);
  ::el_set(editor, EL_GETCFN, &Impl::read_key);
  // Wide: of narrow names libedit makes copies that nobody frees.
  ::el_wset(editor, EL_ADDFN, L"fathom-interrupt", L"drop the line", &Impl::on_interrupt_key);
  ::el_wset(editor, EL_ADDFN, L"fathom-paste", L"insert pasted text", &Impl::on_paste_key);
  ::el_wset(editor, EL_ADDFN, L"fathom-resize", L"begin the line anew", &Impl::on_resize_key);
  ::el_wset(editor, EL_ADDFN, L"fathom-restore", L"insert what it held", &Impl::on_restore_key);
  ::el_wset(editor, EL_ADDFN, L"fathom-end", L"delete, or leave", &Impl::on_end_key);
  ::el_wset(editor, EL_ADDFN, L"fathom-complete", L"complete a command", &Impl::on_tab);
  ::el_set(editor, EL_BIND, "^^", "fathom-interrupt", nullptr);
  ::el_set(editor, EL_BIND, "^_", "fathom-paste", nullptr);
  ::el_set(editor, EL_BIND, "^]", "fathom-resize", nullptr);
  ::el_set(editor, EL_BIND, "\x1c", "fathom-restore", nullptr);
  ::el_set(editor, EL_BIND, "^D", "fathom-end", nullptr);
  ::el_set(editor, EL_BIND, "\t", "fathom-complete", nullptr);
  // What people expect from other shells; libedit leaves them unbound or bound otherwise.
  ::el_set(editor, EL_BIND, "^R", "em-inc-search-prev", nullptr);
  ::el_set(editor, EL_BIND, "\033[1;5C", "em-next-word", nullptr);
  ::el_set(editor, EL_BIND, "\033[1;5D", "ed-prev-word", nullptr);
  ::el_set(editor, EL_BIND, "\033[3~", "ed-delete-next-char", nullptr);
  ::el_set(editor, EL_BIND, "\033[H", "ed-move-to-beg", nullptr);
  ::el_set(editor, EL_BIND, "\033[F", "ed-move-to-end", nullptr);
  ::el_source(editor, nullptr);  // ~/.editrc

  signal_wakeup();  // made before a handler may need it
  struct sigaction action{};
  action.sa_handler = on_resize;
  ::sigaction(SIGWINCH, &action, nullptr);
}

LineEditor::~LineEditor() {
  ::el_end(impl_->editor);
  ::history_end(impl_->history);
}

LineEditor::Outcome LineEditor::read(const std::string& prompt, std::string& line) {
  impl_->prompt = prompt;
  impl_->interrupted = false;
  impl_->kept.clear();
  if (g_resized != 0) {  // while nothing was read
    g_resized = 0;
    ::el_resize(impl_->editor);
  }
  int size = 0;
  // Before the prompt: what is typed as soon as it appears must not be echoed, nor Ctrl-D be lost.
  ::el_set(impl_->editor, EL_PREP_TERM, 1);
  std::fputs("\033[?2004h", stdout);  // pasted text comes marked, so its line breaks are no Enter
  std::fflush(stdout);
  const char* text = ::el_gets(impl_->editor, &size);
  while (impl_->resized) {
    impl_->resized = false;
    // The rows from the prompt down to the cursor, as terminals reflow them to the new width.
    const std::size_t rows = (kPromptWidth + display_width(impl_->kept_before)) / terminal_width();
    if (rows > 0) std::fputs(fmt::format("\033[{}A", rows).c_str(), stdout);
    std::fputs("\r\033[J", stdout);
    std::fflush(stdout);
    ::el_resize(impl_->editor);
    text = ::el_gets(impl_->editor, &size);
  }
  std::fputs("\033[?2004l", stdout);
  // Whatever the line has below the cursor goes.
  if (impl_->interrupted || text == nullptr) std::fputs("\n\033[J", stdout);
  std::fflush(stdout);
  if (impl_->interrupted) return Outcome::Interrupted;
  if (text == nullptr || size <= 0) return Outcome::End;
  line.assign(text);
  if (!line.empty() && line.back() == '\n') line.pop_back();
  line = with_breaks(std::move(line));
  return Outcome::Line;
}

bool LineEditor::keeps_history() const { return !impl_->history_file.empty(); }

void LineEditor::remember(const std::string& entry) {
  HistEvent event{};
  ::history(impl_->history, &event, H_ENTER, with_signs(entry).c_str());
  if (impl_->history_file.empty()) return;
  std::error_code ignored;  // a history that cannot be written is no reason to stop a conversation
  std::filesystem::create_directories(impl_->history_file.parent_path(), ignored);
  const mode_t old = ::umask(077);
  impl_->save_history();
  ::umask(old);
}

}  // namespace fathom
