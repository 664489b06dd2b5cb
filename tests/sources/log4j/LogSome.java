import org.apache.logging.log4j.LogManager;
import org.apache.logging.log4j.Logger;

/** Logs numbered messages of several kinds with whatever log4j2.xml says, and ends. */
public class LogSome {
    public static void main(String[] arguments) {
        Logger logger = LogManager.getLogger("app");
        int count = Integer.parseInt(arguments[0]);
        for (int i = 0; i < count; i++) {
            logger.info("message {} of {}", i, count);
        }
        logger.warn("Grüße\tand 12 <tags>");
        logger.error("two\nlines");
        LogManager.shutdown();
    }
}
