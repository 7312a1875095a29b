//! May this caller do this to that domain? One function a question.
