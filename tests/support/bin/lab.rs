//! The lab, probing.
use support::netns::{self,Namespace,End};
use std::time::Duration;
fn main() {
    let run = || -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o711))?;
    let mx = Namespace::create("mx")?; let client = Namespace::create("client")?;
    netns::join(End{namespace:&mx,interface:"mx0",addresses:&["192.0.2.1/24"]},End{namespace:&client,interface:"eth0",addresses:&["192.0.2.10/24"]})?;
    let t=std::time::Instant::now();
    let p = support::postfix::Postfix::start(&mx, &dir.path().join("postfix"), &["alice".into()], "{ inet:127.0.0.1:8892, default_action=accept }")?;
    println!("started {:?} {:?}", t.elapsed(), p.pid());
    let c = support::smtp::Client{namespace:&client,source:"192.0.2.10:0".parse()?,server:"192.0.2.1:25".parse()?};
    let r = c.attempt(&support::smtp::Message{reverse_path:"bob@sender.example".into(),body:"hi".into(),id:"1@x".into()}, &["alice@lab.example".into(),"eve@lab.example".into()])?;
    println!("{r:?}");
    println!("{}", p.wait_for_delivery("alice","1@x")?);
    println!("{}", p.log());
    let _ = Duration::ZERO; let t=std::time::Instant::now();
    drop(p); println!("stop {:?}", t.elapsed());
    Ok(()) };
    if let Err(e)=run(){ println!("{e} {:?}", e.source()); }
}
