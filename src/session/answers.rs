//! Answers to commands: status and body. Statuses are those of the API, from the same tables.

use serde::Serialize;
use serde_json::Value;

use crate::core::{Code, Fault};
use crate::http::{answer, problem};
use crate::service::outcome::Outcome;
use crate::service::types::problem::Problem;
use crate::session::protocol::Answer;

/// Bound on one answer in bytes.
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// Status and body of an answer.
pub(super) type Reply = (u16, Value);

/// Returns the answer to a command that was refused or has failed.
pub(crate) fn refusal(request: String, fault: &Fault) -> Answer {
    let status = problem::status(fault.code).as_u16();
    let problem = Problem { status, ..Problem::of(fault) };
    Answer { request, status, body: serde_json::to_value(problem).unwrap_or_default() }
}

/// Returns status and body for an outcome. The body is null where there is nothing to show.
///
/// # Errors
/// `Code::RequestTooLarge` if the body exceeds the bound.
pub(super) fn reply<T: Serialize>(outcome: Outcome<T>) -> Result<Reply, Fault> {
    let status = answer::status(&outcome).as_u16();
    let (Outcome::Done(view) | Outcome::Created(view) | Outcome::Started(view)) = outcome else {
        return Ok((status, Value::Null));
    };
    let text = serde_json::to_string(&view).unwrap_or_default();
    if text.len() > ANSWER_BYTES_MAX {
        let message = format!("the answer is larger than {ANSWER_BYTES_MAX} bytes");
        let fault = Fault::new(Code::RequestTooLarge, message, "request less data");
        return Err(fault.because("length limit exceeded"));
    }
    Ok((status, serde_json::from_str(&text).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_have_the_statuses_of_the_api() {
        let reply = |outcome| reply::<u32>(outcome).expect("small");
        assert_eq!(reply(Outcome::Done(1)), (200, Value::from(1)));
        assert_eq!(reply(Outcome::Created(1)), (201, Value::from(1)));
        assert_eq!(reply(Outcome::Started(1)), (202, Value::from(1)));
        assert_eq!(reply(Outcome::Empty), (204, Value::Null));
    }

    #[test]
    fn large_answer_is_refused() {
        let fault = reply(Outcome::Done("x".repeat(ANSWER_BYTES_MAX))).expect_err("too large");
        assert_eq!(fault.code, Code::RequestTooLarge);
        assert_eq!(refusal("r".to_owned(), &fault).status, 413);
        assert!(reply(Outcome::Done("x".repeat(ANSWER_BYTES_MAX - 2))).is_ok());
    }
}
