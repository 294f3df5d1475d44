//! Frame to new SMTP connection.
