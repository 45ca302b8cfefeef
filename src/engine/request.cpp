#include "engine/request.h"

namespace fathom {

const char* to_string(FinishReason reason) {
  switch (reason) {
    case FinishReason::Stop:
      return "stop";
    case FinishReason::Length:
      return "length";
    case FinishReason::Repetition:
      return "repetition";
    case FinishReason::Cancelled:
      return "cancelled";
    case FinishReason::Failed:
      return "error";
    case FinishReason::Filtered:
      return "content_filter";
  }
  return "error";
}

double Usage::prompt_rate() const {
  if (prompt_seconds <= 0) return 0;
  return static_cast<double>(prompt_tokens - cached_tokens) / prompt_seconds;
}

double Usage::generation_rate() const {
  if (generation_seconds <= 0 || completion_tokens < 2) return 0;
  return static_cast<double>(completion_tokens - 1) / generation_seconds;
}

}  // namespace fathom
