//! Drover: admin.
