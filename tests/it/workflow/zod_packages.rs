//! zod_packages
