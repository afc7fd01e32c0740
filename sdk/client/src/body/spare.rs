//! Uploads that nobody holds any more, for the next requests of their thread: nearly every request
//! leaves one, and the next need not allocate.

use std::cell::RefCell;
use std::sync::Arc;

use crate::conn::uploads::Upload;

const MOST: usize = 32;

thread_local! {
    static SPARE: RefCell<Vec<Arc<Upload>>> = const { RefCell::new(Vec::new()) };
}

/// A shared upload, in a place that was left if there is one.
pub(super) fn filled_with(upload: Upload) -> Arc<Upload> {
    let spare = SPARE.try_with(|spare| spare.borrow_mut().pop());
    if let Ok(Some(mut spare)) = spare
        && let Some(place) = Arc::get_mut(&mut spare)
    {
        *place = upload;
        return spare;
    }
    Arc::new(upload)
}

/// Keeps the place of an upload that is about to be dropped.
pub(super) fn keep(upload: &mut Arc<Upload>) {
    // hyper may still have it.
    let Some(place) = Arc::get_mut(upload) else {
        return;
    };
    // The body is dropped now, and may do anything then.
    drop(std::mem::take(place));
    // The thread may be about to end.
    let _ = SPARE.try_with(|spare| {
        let mut spare = spare.borrow_mut();
        if spare.len() < MOST {
            spare.push(upload.clone());
        }
    });
}
